"""``magickbox alarms``: what somebody was told of, and a test of the hooks."""

import argparse
import os

from magickbox.alarm import trial
from magickbox.cli import places
from magickbox.cli.output import complain, moment, print_json, print_table
from magickbox.clock import now
from magickbox.errors import ConfigError
from magickbox.hooks.configured import hooks_of
from magickbox.ledger import alarms


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("alarms", help="list, test")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what somebody was told of and is not over")
    places.add_data(listing)
    places.add_json(listing)
    listing.set_defaults(run=run_list)
    test = actions.add_parser("test", help="tell the webhook and the command of the settings something, as a test")
    places.add_box(test)
    places.add_settings(test)
    test.set_defaults(run=run_test)


def run_list(args: argparse.Namespace) -> int:
    """Print what was told."""
    ledger = places.ledger_to_read(args)
    with ledger.reading() as tx:
        told = [each for each in alarms.told(tx).values() if not each.over]
    if args.json:
        print_json(told)
        return 0
    rows = [(t.trouble.kind, t.trouble.subject, moment(t.trouble.since), moment(t.at), t.trouble.reason) for t in told]
    print_table(("KIND", "SUBJECT", "SINCE", "TOLD", "REASON"), rows, "no alarms")
    return 0


def run_test(args: argparse.Namespace) -> int:
    """Tell each hook; exit code 0 only if each took it."""
    settings = places.settings(args).settings
    hooks = hooks_of(settings.alarm_webhook, settings.alarm_command, os.environ)
    if not hooks:
        raise ConfigError("nobody is to be told: neither alarm_webhook nor alarm_command is set")
    code = 0
    for hook in hooks:
        problem = hook.tell(trial(now()).as_line(settings.ae_title))
        if problem is None:
            print(f"{hook.name}: told")
        else:
            code = complain(f"{hook.name}: {problem}")
    return code
