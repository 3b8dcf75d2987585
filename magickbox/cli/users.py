"""``magickbox users``: who may log in to the window, also when nobody can any more; the box may run or not."""

import argparse
import getpass
import sys
from contextlib import closing

from magickbox.cli import places
from magickbox.cli.doing import who
from magickbox.cli.output import print_json, print_table
from magickbox.control import ask
from magickbox.datafolder import DataFolder
from magickbox.errors import ConfigError, MagickboxError, NotFound
from magickbox.web.accounts import Accounts, accounts_of, open_store
from magickbox.web.principal import Role
from magickbox.web.users import ended_words


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("users", help="who may log in to the window")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="who there is")
    places.add_json(listing)
    adding = actions.add_parser("add", help="let somebody log in; prints a link that sets the password")
    role = actions.add_parser("role", help="give another role")
    removing = actions.add_parser("remove", help="let somebody no longer log in")
    password = actions.add_parser("password", help="set a password, which is asked for, or read from a pipe")
    link = actions.add_parser("link", help="a link that sets a password once; without a name, that of the first admin")
    for each in (adding, role, removing, password):
        each.add_argument("name", metavar="NAME")
    link.add_argument("name", metavar="NAME", nargs="?", default="")
    password.add_argument("--keep-tokens", action="store_true", help="do not revoke the tokens of that user")
    adding.add_argument("--role", choices=[role.word for role in Role], default="viewer", help="[viewer]")
    role.add_argument("role", metavar="ROLE", choices=[role.word for role in Role], help="viewer, operator or admin")
    for action, function in (
        (listing, run_list), (adding, run_add), (role, run_role), (removing, run_remove), (password, run_password),
        (link, run_link),
    ):  # fmt: skip
        places.add_data(action)
        action.set_defaults(run=run, act=function)


def run(args: argparse.Namespace) -> int:
    """Open the window's database and do it."""
    data = places.data_folder(args)
    if not data.state.is_dir():
        raise NotFound(f"{data.root}: no box has ever run on this data folder")
    with closing(open_store(data.state)) as store:
        accounts = accounts_of(store)
        return int(args.act(args, accounts, data))


def run_list(args: argparse.Namespace, accounts: Accounts, _data: DataFolder) -> int:
    """Print the users."""
    found = accounts.users.listing()
    if args.json:
        print_json([{**vars(user), "role": user.role.word} for user in found])
    else:
        rows = [
            (user.name, user.role.word, "yes" if user.has_password else "not yet", user.last_seen or "never")
            for user in found
        ]
        print_table(("NAME", "ROLE", "PASSWORD", "LAST LOG-IN"), rows, "nobody yet: 'magickbox users link'")
    return 0


def run_add(args: argparse.Namespace, accounts: Accounts, data: DataFolder) -> int:
    """A new user and a link."""
    user = accounts.users.add(args.name, Role.of(args.role))
    _note(accounts, "add user", user.name, user.role.word)
    _print_link(accounts, data, user.name)
    return 0


def run_role(args: argparse.Namespace, accounts: Accounts, _data: DataFolder) -> int:
    """Another role."""
    accounts.users.set_role(args.name, Role.of(args.role))
    _note(accounts, "change role", args.name, args.role)
    print(f"{args.name} has the role {args.role} now")
    return 0


def run_remove(args: argparse.Namespace, accounts: Accounts, _data: DataFolder) -> int:
    """Take somebody out."""
    accounts.users.remove(args.name)
    _note(accounts, "remove user", args.name)
    print(f"{args.name} can no longer log in; sessions have ended and tokens are revoked")
    return 0


def run_password(args: argparse.Namespace, accounts: Accounts, _data: DataFolder) -> int:
    """Set a password that is typed twice, or comes as one line through a pipe."""
    accounts.users.get(args.name)
    if sys.stdin.isatty():
        given = getpass.getpass("New password: ")
        if getpass.getpass("Again: ") != given:
            raise ConfigError("the two passwords are not the same; nothing was changed")
    else:
        given = sys.stdin.readline().rstrip("\n")
    ended = accounts.users.set_password(args.name, given, keep_tokens=args.keep_tokens)
    _note(accounts, "change password", args.name, ended_words(ended))
    tokens = "tokens stay" if args.keep_tokens else "tokens are revoked"
    print(f"{args.name} has a new password; sessions from before have ended, {tokens}")
    return 0


def run_link(args: argparse.Namespace, accounts: Accounts, data: DataFolder) -> int:
    """A one-time link."""
    if not args.name and accounts.users.listing():
        raise NotFound("there are users already: 'magickbox users link NAME' makes a link for one of them")
    _note(accounts, "link for password", args.name)
    _print_link(accounts, data, args.name)
    return 0


def _note(accounts: Accounts, action: str, subject: str, result: str = "done") -> None:
    accounts.audit.note(who(), "command line", "-", action, subject, result)


def _print_link(accounts: Accounts, data: DataFolder, name: str) -> None:
    path = f"setup/{accounts.users.new_link(name)}"
    address, by_number = _addresses(data)
    print(f"{address}{path}")
    if by_number:
        print(f"where that name is not known: {by_number}{path}", file=sys.stderr)
    print("works once, for 24 hours", file=sys.stderr)


def _addresses(data: DataFolder) -> tuple[str, str | None]:
    """Where the running box has its window, a slash if none runs; and the same by a number if that has a name."""
    try:
        answer = ask(data.control, "status") if data.control.exists() else None
    except MagickboxError:
        answer = None
    window = (answer or {}).get("status", {}).get("window") or {}
    return str(window.get("address") or "/"), window.get("by_number")
