"""``magickbox jobs``: list them, show one, and do things to one."""

import argparse

from magickbox.cli import places
from magickbox.cli.delivery import as_told
from magickbox.cli.doing import do
from magickbox.cli.output import moment, print_json, print_table, shown, size
from magickbox.job import HAS_FOLDER, Job, JobPriority, JobState
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Transaction, deliveries, jobs, proofs
from magickbox.progress import shown as percent
from magickbox.proof import WORDS

VERBS = {
    "rerun": "make a new job from the same instances",
    "reroute": "cancel what is open and decide anew with today's rules",
    "hold": "keep it from its next step",
    "cancel": "end its processor, or keep it from it; it is held",
    "release": "let it go on",
    "delete": "remove its folder; its row stays",
}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("jobs", help="list, show, rerun, reroute, hold, cancel, release, delete, priority")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the newest jobs first")
    listing.add_argument("--state", action="append", choices=[s.value for s in JobState], help="only of this state")
    listing.add_argument("--limit", type=int, default=50, help="at most so many [50]; -1: all")
    show = actions.add_parser("show", help="everything about one job")
    show.add_argument("job", metavar="JOB")
    for each, function in ((listing, run_list), (show, run_show)):
        places.add_data(each)
        places.add_json(each)
        each.set_defaults(run=function)
    for verb, meaning in VERBS.items():
        action = actions.add_parser(verb, help=meaning, description=meaning)
        action.add_argument("job", metavar="JOB")
        places.add_data(action)
        action.set_defaults(run=run_verb, verb="cancel-job" if verb == "cancel" else verb)
    priority = actions.add_parser("priority", help="say how soon it is to run")
    priority.add_argument("job", metavar="JOB")
    priority.add_argument("verb", choices=[each.value for each in JobPriority], help="how soon")
    places.add_data(priority)
    priority.set_defaults(run=run_verb)


def run_verb(args: argparse.Namespace) -> int:
    """Do one thing to one job."""
    print(do(places.data_folder(args), args.verb, args.job))
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Print the jobs."""
    ledger = places.ledger_to_read(args)
    with ledger.reading() as tx:
        found = jobs.newest(tx, args.limit + 1 if args.limit >= 0 else -1, [JobState(s) for s in args.state or ()])
    cut = 0 <= args.limit < len(found)
    found = found[: args.limit] if cut else found
    if args.json:
        print_json(found)
    else:
        head = ("JOB", "STATE", "OUTCOME", "FROM", "CALLED", "INSTANCES", "SINCE", "REASON")
        rows = [
            (j.id, j.state, j.outcome, j.calling_ae, j.called_ae, j.instances, moment(j.since), j.reason) for j in found
        ]
        print_table(head, rows, "no jobs")
        if cut:
            print(f"there are more; these are the newest {args.limit} (--limit N shows more, --limit -1 all)")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print one job with its history, runs and deliveries."""
    ledger = places.ledger_to_read(args)
    with ledger.reading() as tx:
        job = jobs.get(tx, args.job)
        if args.json:
            print_json(_everything(tx, job))
            return 0
        folder = places.data_folder(args).jobs / job.id
        far = JobFolder(folder).how_far(job.attempt) if job.state is JobState.RUNNING else None
        _print_job(job, str(folder) if job.state in HAS_FOLDER else None, percent(far) if far is not None else None)
        _print_parts(tx, job)
    return 0


def _everything(tx: Transaction, job: Job) -> dict[str, object]:
    sent = as_told(tx, deliveries.listing(tx, job.id))
    return {
        "job": job,
        "associations": jobs.shares_of(tx, job.id),
        "history": jobs.history(tx, job.id),
        "attempts": jobs.attempts(tx, job.id),
        "deliveries": [
            {
                "delivery": d,
                "attempts": deliveries.attempts(tx, d.id),
                "proofs": proofs.of_delivery(tx, d.id),
                "instances": deliveries.instances_of(tx, d.id),
            }
            for d in sent
        ],
        "instances": jobs.held_by(tx, job.id),
    }


def _print_job(job: Job, folder: str | None, progress: str | None) -> None:
    facts = {
        "job": job.id,
        "state": f"{job.state} since {moment(job.since)}",
        "reason": job.reason,
        "priority": job.priority,
        "outcome": f"{job.outcome or '-'} {job.message}",
        "from": f"{job.calling_ae} at {job.peer}, calling {job.called_ae}",
        "study": job.study,
        "instances": f"{job.instances} ({size(job.bytes)})" + (", last association aborted" if job.aborted else ""),
        "processor": f"{job.processor or '-'} (attempt {job.attempt})",
        "progress": progress,
        "follows": job.follows,
        "rerun of": job.rerun_of,
        "parent": job.parent,
        "folder": folder,
    }
    for name, value in facts.items():
        if value:
            print(f"{name:10} {shown(value).strip()}")


def _print_parts(tx: Transaction, job: Job) -> None:
    print("\nhistory")
    lines = jobs.history(tx, job.id)
    rows = [(moment(h.at), f"{h.was or '(new)'} → {h.became}", h.who, h.reason) for h in lines]
    print_table(("WHEN", "STATE", "WHO", "REASON"), rows, "none")
    print("\nruns")
    runs = [
        (a.n, f"{a.processor} {a.version}", moment(a.began), moment(a.ended), a.exit_code, a.outcome, a.message)
        for a in jobs.attempts(tx, job.id)
    ]
    print_table(("N", "PROCESSOR", "BEGAN", "ENDED", "EXIT", "OUTCOME", "MESSAGE"), runs, "none")
    print("\ndeliveries")
    sent = as_told(tx, deliveries.listing(tx, job.id))
    rows2 = [(d.id, d.state, d.rule, str(d.destination), d.instances, d.tries, d.reason) for d in sent]
    print_table(("ID", "STATE", "RULE", "TO", "INSTANCES", "TRIES", "REASON"), rows2, "none")
    for delivery in sent:
        for proof in proofs.of_delivery(tx, delivery.id):
            print(f"  {delivery.id}: {WORDS[proof.how]} {proof.state} {moment(proof.asked)}: {shown(proof.reason)}")
        for item in deliveries.instances_of(tx, delivery.id):
            if item.reason:
                print(f"  {delivery.id}: {item.state} {item.sop_instance}: {shown(item.reason)}")
