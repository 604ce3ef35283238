"""Who may do what: users with roles, sessions of browsers, tokens of programs."""

import hashlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Literal, NamedTuple, final, get_args

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session as Transaction

from blemish.errors import SettingsError
from blemish.inspection.decisions import now
from blemish.station.database import Database
from blemish.station.tables import ROLES, Role, Session, Token, User
from blemish.station.trail import append

IDLE_S, LONGEST_S = 12 * 3600.0, 7 * 24 * 3600.0
"""A session ends after so long without a request, and after so long at all."""

SEEN_EVERY_S = 60.0
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 200

Scope = Literal["predict", "read", "judge", "manage"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a token may be for: send images, look, give verdicts, bring models."""

PASSWORDS = PasswordHash((Argon2Hasher(),))


@final
class Identity(NamedTuple):
    """Who asks: a browser's session (with its CSRF token), or a program's token (with its scopes)."""

    user_id: int
    name: str
    role: Role
    csrf: str | None
    scopes: frozenset[str] | None
    session: str | None = None

    def may(self, role: Role) -> bool:
        """Whether this role, or a stronger one, was given.

        >>> Identity(1, "eva", "engineer", None, None).may("operator")
        True
        """
        return ROLES.index(self.role) >= ROLES.index(role)


_HASHING = threading.BoundedSemaphore(2)
"""Each takes 64 MiB: so many passwords are compared at once, and others wait."""


@cache
def _nobodys_hash() -> str:
    """What a password is compared with where there is no such user, so that it takes as long."""
    return PASSWORDS.hash(secrets.token_hex())


def add_user(database: Database, actor: str, name: str, password: str, role: Role) -> int:
    """A new user.

    Raises:
        SettingsError: the name is taken or none, the password too short, or the role unknown.
    """
    name = name.strip()
    if not 1 <= len(name) <= 80 or not name.isprintable() or name.casefold() in ("station", "terminal"):
        raise SettingsError(f"user '{name[:80]}': give a name of 1 to 80 characters, other than station or terminal")
    if role not in ROLES:
        raise SettingsError(f"role '{role}': expected one of {', '.join(ROLES)}")
    hashed = PASSWORDS.hash(_checked_password(password, name))
    with database.write() as session:
        if _user_named(session, name) is not None:
            raise SettingsError(f"user '{name}': there is one of that name; give another")
        user = User(name=name, password=hashed, role=role, created_at=now())
        session.add(user)
        session.flush()
        append(session, actor, "user", name, {"user_id": user.id, "role": role})
        return user.id


def change_user(
    database: Database, actor: str, user_id: int, *, role: Role | None = None, is_active: bool | None = None
) -> None:
    """Give a user another role, or lock the account; its sessions end. The last administrator stays one.

    Raises:
        SettingsError: there is no such user or role, or no administrator would be left.
    """
    with database.write() as session:
        user = session.get(User, user_id)
        if user is None or (role is not None and role not in ROLES):
            raise SettingsError(f"user {user_id}, role {role}: there is none")
        user.role, user.is_active = role or user.role, user.is_active if is_active is None else is_active
        session.flush()
        left = select(func.count()).where(User.role == "administrator", User.is_active)
        if not session.scalar(left):
            raise SettingsError(f"user '{user.name}': the last administrator; make another one first")
        session.execute(delete(Session).where(Session.user_id == user_id))
        append(session, actor, "user", user.name, {"user_id": user.id, "role": user.role, "is_active": user.is_active})


def set_password(database: Database, actor: str, user_id: int, password: str) -> None:
    """Give a user another password; all sessions and tokens of the account end.

    Raises:
        SettingsError: it is too short, or there is no such user.
    """
    with database.read() as session:
        user = session.get(User, user_id)
    if user is None:
        raise SettingsError(f"user {user_id}: there is none")
    hashed = PASSWORDS.hash(_checked_password(password, user.name))
    with database.write() as session:
        session.execute(update(User).where(User.id == user_id).values(password=hashed))
        session.execute(delete(Session).where(Session.user_id == user_id))
        session.execute(delete(Token).where(Token.user_id == user_id))
        append(session, actor, "password", user.name, {"user_id": user_id})


def _checked_password(password: str, name: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise SettingsError(f"password: give {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    if name.lower() in password.lower():
        raise SettingsError("password: it holds the name; give another")
    return password


def has_users(database: Database) -> bool:
    """Whether there is anyone who could log in."""
    with database.read() as session:
        return session.scalar(select(User.id).limit(1)) is not None


def check_password(database: Database, name: str, password: str) -> User | None:
    """The user, where name and password are right and the account is not locked; it always takes as long."""
    with database.read() as session:
        user = _user_named(session, name.strip())
    hashed = user.password if user is not None else _nobodys_hash()
    with _HASHING:
        is_right = PASSWORDS.verify(password[:LONGEST_PASSWORD], hashed)
    return user if user is not None and is_right and user.is_active else None


def _user_named(session: Transaction, name: str) -> User | None:
    """The user of that name in any case of letters, of which databases know no more than those of ASCII."""
    alike = [user for user in session.scalars(select(User)) if user.name.casefold() == name.casefold()]
    return min(alike, key=lambda user: (user.name != name, user.id), default=None)


def begin_session(database: Database, user: User) -> str:
    """Log a user in; returns what the cookie holds. It is drawn here, never taken from the browser."""
    token, at = secrets.token_urlsafe(32), time.time()
    with database.write() as session:
        session.execute(delete(Session).where(Session.seen_s < at - LONGEST_S))
        session.add(
            Session(token_sha256=_hash(token), user_id=user.id, csrf=secrets.token_urlsafe(24), created_s=at, seen_s=at)
        )
        session.execute(update(User).where(User.id == user.id).values(last_login_at=now()))
        append(session, user.name, "login", user.name, {"user_id": user.id})
    return token


def end_session(database: Database, token_sha256: str) -> None:
    """Log out."""
    with database.write() as session:
        session.execute(delete(Session).where(Session.token_sha256 == token_sha256))


def session_identity(database: Database, token: str) -> Identity | None:
    """Whose session a cookie holds; None where it has ended."""
    hashed, at = _hash(token), time.time()
    with database.read() as session:
        row = session.execute(
            select(Session, User).join(User, User.id == Session.user_id).where(Session.token_sha256 == hashed)
        ).first()
    if row is None:
        return None
    found, user = row
    idle_s, age_s = abs(at - found.seen_s), abs(at - found.created_s)  # the clock may have been set back
    if idle_s > IDLE_S or age_s > LONGEST_S or not user.is_active:
        return None
    if idle_s > SEEN_EVERY_S:
        with database.write() as session:
            session.execute(update(Session).where(Session.token_sha256 == hashed).values(seen_s=at))
    return Identity(user.id, user.name, _role(user), found.csrf, None, hashed)


def add_token(database: Database, actor: str, user_id: int, name: str, scopes: Iterable[str]) -> str:
    """A token for a program that acts for a user; it is shown this once, and kept as its hash.

    Raises:
        SettingsError: no name, no scope, or an unknown one.
    """
    wanted = sorted(set(scopes))
    if not wanted or not set(wanted) <= set(SCOPES):
        raise SettingsError(f"scopes '{' '.join(wanted)}': expected some of {', '.join(SCOPES)}")
    if not 1 <= len(name.strip()) <= 80 or not name.isprintable():
        raise SettingsError("token: give it a name of 1 to 80 characters")
    token = f"blm_{secrets.token_urlsafe(32)}"
    with database.write() as session:
        session.add(
            Token(
                user_id=user_id, name=name.strip(), token_sha256=_hash(token), scopes=" ".join(wanted), created_at=now()
            )
        )
        append(session, actor, "token", name.strip(), {"user_id": user_id, "scopes": wanted})
    return token


def end_token(database: Database, actor: str, token_id: int) -> None:
    """Take a token back."""
    with database.write() as session:
        token = session.get(Token, token_id)
        if token is not None:
            session.delete(token)
            append(session, actor, "token", token.name, {"user_id": token.user_id, "ended": True})


def token_identity(database: Database, token: str) -> Identity | None:
    """For whom a program with this token acts; None where there is no such token."""
    with database.read() as session:
        row = session.execute(
            select(Token, User)
            .join(User, User.id == Token.user_id)
            .where(Token.token_sha256 == _hash(token), User.is_active)
        ).first()
    if row is None:
        return None
    found, user = row
    if (found.used_at or "")[:13] != now()[:13]:  # by the hour; not a write a request
        with database.write() as session:
            session.execute(update(Token).where(Token.id == found.id).values(used_at=now()))
    return Identity(user.id, user.name, _role(user), None, frozenset(found.scopes.split()))


def _role(user: User) -> Role:
    return next((role for role in ROLES if role == user.role), "viewer")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@final
class Attempts:
    """Log-ins of late, by what they have in common: where too many in `window_s` seconds were wrong, no more are tried.

    Each counts as wrong until it is found to be right, so that many at the same time are not tried either.

    >>> attempts = Attempts(window_s=60.0)
    >>> [attempts.begin({"eva": 2}, 0.0) for _ in range(3)], attempts.begin({"eva": 2}, 61.0)
    ([True, True, False], True)
    """

    def __init__(self, window_s: float = 300.0, most_keys: int = 10_000) -> None:
        self._window_s, self._most_keys = window_s, most_keys
        self._wrong: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def begin(self, limits: Mapping[str, int], at_s: float) -> bool:
        """Count one more; False where under one of these keys as many were wrong as its limit says."""
        with self._lock:
            for key, limit in limits.items():
                if sum(at_s - one < self._window_s for one in self._wrong.get(key, ())) >= limit:
                    return False
            for key in limits:
                self._wrong.setdefault(key, deque(maxlen=200)).append(at_s)
            while len(self._wrong) > self._most_keys:
                self._wrong.pop(next(iter(self._wrong)))
            return True

    def end(self, keys: Iterable[str], forgiven: str, at_s: float) -> None:
        """It was right: it does not count, nor does what was wrong before under the key `forgiven`."""
        with self._lock:
            self._wrong.pop(forgiven, None)
            for key in keys:
                with suppress(ValueError):
                    self._wrong.get(key, deque()).remove(at_s)
