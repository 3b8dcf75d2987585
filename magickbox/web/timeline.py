"""The way of one job from its associations to its receipt, as lines in the order of time."""

from collections.abc import Iterator

from magickbox.clock import from_text
from magickbox.delivery import UNDECIDED, Delivery
from magickbox.ledger import Transaction, decisions, deliveries, jobs, proofs
from magickbox.proof import WORDS
from magickbox.web.jobview import reason_for, told
from magickbox.web.models.jobs import EventModel
from magickbox.web.principal import Principal

MOST_DELIVERIES, MOST_ATTEMPTS = 200, 20


def timeline(tx: Transaction, id_: str, who: Principal) -> list[EventModel]:
    """Everything that has happened to a job, oldest first; raises NotFound."""
    job = jobs.get(tx, id_)
    runs = jobs.attempts(tx, id_)
    said = [job.message, *(run.message for run in runs)]
    found = [*_associations(tx, id_), *_states(tx, id_, said, who), *_runs(runs, who), *_decisions(tx, id_)]
    for delivery in deliveries.listing(tx, id_, limit=MOST_DELIVERIES):
        found += _of_delivery(tx, delivery)
    found += _receipt(tx, id_)
    return sorted(found, key=lambda each: each.at)


def _associations(tx: Transaction, job: str) -> Iterator[EventModel]:
    for share in jobs.shares_of(tx, job):
        one = share.association
        took = (one.ended - one.began).total_seconds() if one.ended else None
        count = "1 instance" if share.instances == 1 else f"{share.instances} instances"
        how = one.how.value if one.how else "not over at the birth of the job"
        yield EventModel(
            at=one.began, kind="association", title=f"{one.calling_ae} calls {one.called_ae}",
            text=f"{count}, {how}", who=one.peer, seconds=took,
        )  # fmt: skip


def _states(tx: Transaction, job: str, said: list[str], who: Principal) -> Iterator[EventModel]:
    for line in jobs.history(tx, job):
        title = line.became if line.was != line.became else f"still {line.became}"
        yield EventModel(
            at=line.at, kind="state", title=title, text=reason_for(line.reason, said, who), who=line.who,
            state=line.became,
        )  # fmt: skip


def _runs(runs: list[jobs.Attempt], who: Principal) -> Iterator[EventModel]:
    for run in runs:
        name = f"{run.processor} {run.version}".strip()
        yield EventModel(
            at=run.began, kind="run", title=f"run {run.n} of {name}", text=told(run.message, who),
            seconds=(run.ended - run.began).total_seconds() if run.ended else None,
            state=run.outcome or "running",
        )  # fmt: skip


def _decisions(tx: Transaction, job: str) -> Iterator[EventModel]:
    for each in decisions.of_job(tx, job):
        rules = each.why.get("rules", [])
        applying = [str(rule.get("name", "")) for rule in rules if rule.get("applies")]
        named = f": {', '.join(applying)}" if applying else ""
        yield EventModel(
            at=each.at, kind="decision", title=f"decision {each.n}",
            text=f"{len(applying)} of {len(rules)} rules apply{named}",
        )  # fmt: skip


def _of_delivery(tx: Transaction, delivery: Delivery) -> Iterator[EventModel]:
    to, number = str(delivery.destination), delivery.id
    for attempt in deliveries.attempts(tx, number)[-MOST_ATTEMPTS:]:
        came = f"{attempt.sent} sent" + (f", {attempt.refused} refused" if attempt.refused else "")
        yield EventModel(
            at=attempt.began, kind="delivery", title=f"attempt {attempt.n} to {to}",
            text="; ".join(part for part in (came, attempt.result) if part), delivery=number,
            seconds=(attempt.ended - attempt.began).total_seconds() if attempt.ended else None,
        )  # fmt: skip
    for proof in proofs.of_delivery(tx, number):
        yield EventModel(
            at=proof.answered or proof.asked, kind="proof", delivery=number, state=proof.state,
            title=f"asked {to} by {WORDS.get(proof.how, proof.how)}", text=proof.reason,
        )  # fmt: skip
    if delivery.ended is not None and delivery.state not in UNDECIDED:
        yield EventModel(
            at=delivery.ended, kind="delivery", title=f"delivery {number} to {to}", text=delivery.reason,
            state=delivery.state.value, delivery=number,
        )  # fmt: skip


def _receipt(tx: Transaction, job: str) -> Iterator[EventModel]:
    row = tx.execute("SELECT written, checksum FROM receipts WHERE job = ? AND written IS NOT NULL", (job,)).fetchone()
    if row is not None:
        yield EventModel(at=from_text(row[0]), kind="receipt", title="receipt written", text=f"SHA-256 {row[1]}")
