"""Users: who may log in, and as what."""

from dataclasses import asdict

from fastapi import APIRouter, Depends, Request

from magickbox.web.acting import note
from magickbox.web.context import Context
from magickbox.web.models.accounts import LinkOut, NewUser, RoleIn, Said, UserOut, Users
from magickbox.web.principal import Principal, Role
from magickbox.web.security import Admin, In, admin
from magickbox.web.users import LINK_LASTS, User

router = APIRouter(tags=["accounts"])


def shown(user: User) -> UserOut:
    """A user as the API has it."""
    return UserOut(**(asdict(user) | {"role": user.role.word}))


@router.get("/users", dependencies=[Depends(admin)], summary="Who may log in")
def list_users(box: In) -> Users:
    return Users(items=[shown(user) for user in box.accounts.users.listing()])


@router.post("/users", status_code=201, summary="Let somebody log in")
def add_user(request: Request, box: In, who: Admin, new: NewUser) -> LinkOut:
    """The answer is the link by which they set their password."""
    return invite(request, box, who, new.name.strip(), Role.of(new.role))


def invite(request: Request, box: Context, who: Principal, name: str, role: Role) -> LinkOut:
    """A new user and a link; raises ConfigError."""
    user = box.accounts.users.add(name, role)
    note(request, who, "add user", user.name, role.word)
    return _link(box, user.name)


def _link(box: Context, name: str) -> LinkOut:
    secret = box.accounts.users.new_link(name)
    return LinkOut(name=name, path=f"/setup/{secret}", hours=int(LINK_LASTS.total_seconds() // 3600))


@router.put("/users/{name}/role", summary="Give another role")
def change_role(request: Request, box: In, who: Admin, name: str, wanted: RoleIn) -> Said:
    """The last admin stays one."""
    box.accounts.users.set_role(name, Role.of(wanted.role))
    note(request, who, "change role", name, wanted.role)
    return Said(said=f"{name} has the role {wanted.role} now")


@router.post("/users/{name}/link", summary="A link by which the password is set anew")
def make_link(request: Request, box: In, who: Admin, name: str) -> LinkOut:
    """Works once, within a day; a link from before is over."""
    user = box.accounts.users.get(name)
    note(request, who, "link for password", user.name)
    return _link(box, user.name)


@router.delete("/users/{name}", summary="Let somebody no longer log in")
def remove_user(request: Request, box: In, who: Admin, name: str) -> Said:
    """Ends sessions and revokes tokens; the last admin stays."""
    box.accounts.users.remove(name)
    note(request, who, "remove user", name)
    return Said(said=f"{name} can no longer log in")
