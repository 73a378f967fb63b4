"""The web's tables: SQL beside the function that runs it, rows to values and back."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from plumbing.db import Transaction
from web.domain import Person, Preferences, Session, SignIn, View


class WebTransaction(Transaction):
    """What the web does to its database at once."""

    async def add_session(self, session: Session, secret_digest: bytes) -> None:
        person = session.person
        await self.connection.execute(
            """
            insert into sessions (
                session_id, secret_digest, user_id, login, name, issuer, subject,
                began_at, authenticated_at, used_at, resolved_at, ends_at
            ) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            """,
            session.session_id,
            secret_digest,
            person.user_id,
            person.login,
            person.name,
            person.issuer,
            person.subject,
            session.began_at,
            session.authenticated_at,
            session.used_at,
            session.resolved_at,
            session.ends_at,
        )

    async def session_by_digest(self, secret_digest: bytes, now: datetime) -> Session | None:
        row = await self.connection.fetchrow(
            "select * from sessions where secret_digest = $1 and ends_at > $2", secret_digest, now
        )
        return _session(row) if row else None

    async def session(self, session_id: UUID, now: datetime) -> Session | None:
        row = await self.connection.fetchrow(
            "select * from sessions where session_id = $1 and ends_at > $2", session_id, now
        )
        return _session(row) if row else None

    async def sessions_of(self, user_id: UUID, now: datetime) -> list[Session]:
        rows = await self.connection.fetch(
            "select * from sessions where user_id = $1 and ends_at > $2 order by began_at desc limit 100",
            user_id,
            now,
        )
        return [_session(row) for row in rows]

    async def note_use(self, session_id: UUID, now: datetime) -> None:
        await self.connection.execute(
            "update sessions set used_at = greatest(used_at, $2) where session_id = $1", session_id, now
        )

    async def note_resolved(self, session_id: UUID, now: datetime) -> None:
        await self.connection.execute(
            "update sessions set resolved_at = greatest(resolved_at, $2) where session_id = $1",
            session_id,
            now,
        )

    async def lock_session(self, session_id: UUID) -> None:
        await self.connection.execute("update sessions set locked = true where session_id = $1", session_id)

    async def unlock_session(self, session_id: UUID, secret_digest: bytes, now: datetime) -> bool:
        """Whether the session was still there."""
        return bool(
            await self.connection.fetchval(
                """
                update sessions
                set secret_digest = $2, authenticated_at = $3, used_at = $3, resolved_at = $3, locked = false
                where session_id = $1 and ends_at > $3
                returning true
                """,
                session_id,
                secret_digest,
                now,
            )
        )

    async def end_sessions(self, user_id: UUID | None, session_id: UUID | None) -> list[Session]:
        """Ends all sessions of a user, or one of theirs, or one of anybody; answers which there were."""
        rows = await self.connection.fetch(
            """
            delete from sessions
            where ($1::uuid is null or user_id = $1) and ($2::uuid is null or session_id = $2)
                and ($1 is not null or $2 is not null)
            returning *
            """,
            user_id,
            session_id,
        )
        return [_session(row) for row in rows]

    async def everybodys_sessions(self, login: str, now: datetime) -> list[Session]:
        rows = await self.connection.fetch(
            """
            select * from sessions where ends_at > $2 and ($1 = '' or lower(login) = lower($1))
            order by used_at desc, session_id limit 200
            """,
            login,
            now,
        )
        return [_session(row) for row in rows]

    async def drop_ended(self, now: datetime) -> None:
        await self.connection.execute("delete from sessions where ends_at <= $1", now)

    # Lists that were shown, and cases that are open

    async def save_view(self, view_id: UUID, session_id: UUID, view: View, kept: int) -> None:
        """Of a session the latest `kept` are kept."""
        await self.connection.execute(
            """
            insert into views (view_id, session_id, search, sorted_by, is_ascending, page_token, made_at)
            select $1, $2, $3, $4, $5, $6, $7 where exists (select from sessions where session_id = $2)
            """,
            view_id,
            session_id,
            view.search,
            view.order,
            view.ascending,
            view.page_token,
            self.now,
        )
        await self.connection.execute(
            """
            delete from views where view_id in (
                select view_id from views where session_id = $1 order by made_at desc, view_id desc offset $2
            )
            """,
            session_id,
            kept,
        )

    async def view(self, view_id: UUID, session_id: UUID) -> View | None:
        """One that this session looked at."""
        row = await self.connection.fetchrow(
            "select * from views where view_id = $1 and session_id = $2", view_id, session_id
        )
        return View(row["search"], row["sorted_by"], row["is_ascending"], row["page_token"]) if row else None

    async def save_shown(self, session_id: UUID, case_ids: Sequence[UUID], view_id: UUID | None) -> None:
        await self.connection.execute(
            """
            insert into shown_lists (session_id, case_ids, view_id) select $1, $2, $3
            where exists (select from sessions where session_id = $1)
            on conflict (session_id) do update set case_ids = excluded.case_ids, view_id = excluded.view_id
            """,
            session_id,
            case_ids,
            view_id,
        )

    async def shown(self, session_id: UUID) -> tuple[Sequence[UUID], UUID | None]:
        """The cases that the session was shown last, in their order, and the view that they are of."""
        row = await self.connection.fetchrow(
            "select case_ids, view_id from shown_lists where session_id = $1", session_id
        )
        return (row["case_ids"], row["view_id"]) if row else ((), None)

    async def note_open(self, case_id: UUID, session_id: UUID) -> None:
        await self.connection.execute(
            """
            insert into open_cases (case_id, session_id, seen_at) select $1, $2, $3
            where exists (select from sessions where session_id = $2)
            on conflict (case_id, session_id) do update set seen_at = excluded.seen_at
            """,
            case_id,
            session_id,
            self.now,
        )

    async def note_closed(self, case_id: UUID, session_id: UUID) -> None:
        await self.connection.execute(
            "delete from open_cases where case_id = $1 and session_id = $2", case_id, session_id
        )

    async def others_at(self, case_id: UUID, user_id: UUID, since: datetime) -> Sequence[str]:
        """Names of the other users who have had the case open since then, each once."""
        rows = await self.connection.fetch(
            """
            select distinct name from open_cases join sessions using (session_id)
            where case_id = $1 and user_id <> $2 and seen_at > $3 and ends_at > $4 and not locked
            order by name
            """,
            case_id,
            user_id,
            since,
            self.now,
        )
        return [row["name"] for row in rows]

    async def drop_closed(self, since: datetime) -> None:
        await self.connection.execute("delete from open_cases where seen_at <= $1", since)

    # Viewers

    async def add_viewer_code(
        self, code_digest: bytes, browser_digest: bytes, session_id: UUID, case_id: UUID
    ) -> None:
        await self.connection.execute(
            """
            insert into viewer_codes (code_digest, browser_digest, session_id, case_id, made_at)
            select $1, $2, $3, $4, $5 where exists (select from sessions where session_id = $3)
            """,
            code_digest,
            browser_digest,
            session_id,
            case_id,
            self.now,
        )

    async def take_viewer_code(
        self, code_digest: bytes, browser_digest: bytes, case_id: UUID, since: datetime
    ) -> Session | None:
        """The session of a code, for the last time; None if it does not count, or not for this."""
        row = await self.connection.fetchrow(
            """
            with taken as (delete from viewer_codes where code_digest = $1 returning *)
            select sessions.* from taken join sessions using (session_id)
            where browser_digest = $2 and case_id = $3 and made_at > $4 and ends_at > $5
            """,
            code_digest,
            browser_digest,
            case_id,
            since,
            self.now,
        )
        return _session(row) if row else None

    async def add_viewer(self, secret_digest: bytes, session_id: UUID, most: int) -> None:
        """Keeps the newest `most` of a session."""
        await self.connection.execute(
            """
            insert into viewers (secret_digest, session_id, began_at) select $1, $2, $3
            where exists (select from sessions where session_id = $2)
            """,
            secret_digest,
            session_id,
            self.now,
        )
        await self.connection.execute(
            """
            delete from viewers where secret_digest in (
                select secret_digest from viewers where session_id = $1 order by began_at desc offset $2
            )
            """,
            session_id,
            most,
        )

    async def session_of_viewer(self, secret_digest: bytes, now: datetime) -> Session | None:
        row = await self.connection.fetchrow(
            """
            select sessions.* from viewers join sessions using (session_id)
            where viewers.secret_digest = $1 and ends_at > $2
            """,
            secret_digest,
            now,
        )
        return _session(row) if row else None

    async def drop_viewer_codes(self, until: datetime) -> None:
        await self.connection.execute("delete from viewer_codes where made_at <= $1", until)

    # Passwords and preferences

    async def save_password(self, user_id: UUID, login: str, password: str) -> None:
        """`password` is a hash; it takes the place of any before, and of another user's of that login."""
        await self.connection.execute(
            "delete from development_passwords where login = $2 and user_id <> $1", user_id, login
        )
        await self.connection.execute(
            """
            insert into development_passwords (user_id, login, password, chosen_at) values ($1, $2, $3, $4)
            on conflict (user_id) do update
            set login = excluded.login, password = excluded.password, chosen_at = excluded.chosen_at
            """,
            user_id,
            login,
            password,
            self.now,
        )

    async def password_of(self, login: str) -> tuple[UUID, str] | None:
        """The user of a login, and the hash of their password; None if they have chosen none."""
        row = await self.connection.fetchrow(
            "select user_id, password from development_passwords where login = $1", login
        )
        return (row["user_id"], row["password"]) if row else None

    async def save_sign_in(self, browser_digest: bytes, begun: SignIn) -> None:
        await self.connection.execute(
            """
            insert into sign_ins (browser_digest, state, nonce, verifier, back_to, subject, began_at)
            values ($1, $2, $3, $4, $5, nullif($6, ''), $7)
            """,
            browser_digest,
            begun.state,
            begun.nonce,
            begun.verifier,
            begun.back_to,
            begun.subject,
            begun.began_at,
        )

    async def sign_in_of(self, browser_digest: bytes, since: datetime) -> SignIn | None:
        row = await self.connection.fetchrow(
            "select * from sign_ins where browser_digest = $1 and began_at > $2", browser_digest, since
        )
        return _sign_in(row) if row else None

    async def take_sign_in(self, browser_digest: bytes, since: datetime) -> SignIn | None:
        """As `sign_in_of`, for the last time."""
        row = await self.connection.fetchrow(
            "delete from sign_ins where browser_digest = $1 and began_at > $2 returning *",
            browser_digest,
            since,
        )
        return _sign_in(row) if row else None

    async def drop_sign_ins(self, until: datetime) -> None:
        await self.connection.execute("delete from sign_ins where began_at <= $1", until)

    async def note_provider_session(self, session_id: UUID, provider_session: str) -> None:
        await self.connection.execute(
            "update sessions set provider_session = nullif($2, '') where session_id = $1",
            session_id,
            provider_session,
        )

    async def end_sessions_of_identity(
        self, issuer: str, subject: str, provider_session: str
    ) -> list[Session]:
        """Ends the sessions of an identity, or the one that the provider calls so, or both; answers them."""
        rows = await self.connection.fetch(
            """
            delete from sessions
            where issuer = $1 and ($2 = '' or subject = $2)
                and ($3 = '' or provider_session = $3) and ($2 <> '' or $3 <> '')
            returning *
            """,
            issuer,
            subject,
            provider_session,
        )
        return [_session(row) for row in rows]

    async def count_attempt(self, key_digest: bytes, limit: int, now: datetime, since: datetime) -> bool:
        """Counts one more in a window that began after `since`, or in a new one; whether that is allowed."""
        return bool(
            await self.connection.fetchval(
                """
                insert into attempts as a (key_digest, began_at, failures) values ($1, $3, 1)
                on conflict (key_digest) do update
                set began_at = case when a.began_at <= $4 then $3 else a.began_at end,
                    failures = case when a.began_at <= $4 then 1 else a.failures + 1 end
                where a.began_at <= $4 or a.failures < $2
                returning true
                """,
                key_digest,
                limit,
                now,
                since,
            )
        )

    async def take_back_attempt(self, key_digest: bytes) -> None:
        await self.connection.execute(
            "update attempts set failures = greatest(failures - 1, 0) where key_digest = $1", key_digest
        )

    async def drop_attempts(self, until: datetime) -> None:
        await self.connection.execute("delete from attempts where began_at <= $1", until)

    async def choice_of(self, code_digest: bytes) -> UUID | None:
        """The user for whom somebody has chosen with this code, unless that is finished."""
        user_id: UUID | None = await self.connection.fetchval(
            "select user_id from invitation_choices where code_digest = $1 and not finished", code_digest
        )
        return user_id

    async def save_choice(self, code_digest: bytes, user_id: UUID, password: str) -> bool:
        """Takes the place of an earlier choice that is not finished; whether there is none that is."""
        return bool(
            await self.connection.fetchval(
                """
                insert into invitation_choices as c (code_digest, user_id, password, chosen_at)
                values ($1, $2, $3, $4)
                on conflict (code_digest) do update
                set user_id = excluded.user_id, password = excluded.password, chosen_at = excluded.chosen_at
                where not c.finished
                returning true
                """,
                code_digest,
                user_id,
                password,
                self.now,
            )
        )

    async def finish_choice(self, code_digest: bytes, password: str) -> bool:
        """Whether it is this choice that counts: nobody has made another, or finished one, with the code."""
        return bool(
            await self.connection.fetchval(
                """
                update invitation_choices set finished = true
                where code_digest = $1 and password = $2 and not finished
                returning true
                """,
                code_digest,
                password,
            )
        )

    async def drop_choices(self, until: datetime) -> None:
        await self.connection.execute("delete from invitation_choices where chosen_at <= $1", until)

    async def save_preferences(self, user_id: UUID, preferences: Preferences) -> None:
        await self.connection.execute(
            """
            insert into preferences (user_id, theme, density, has_keys) values ($1, $2, $3, $4)
            on conflict (user_id) do update
            set theme = excluded.theme, density = excluded.density, has_keys = excluded.has_keys
            """,
            user_id,
            preferences.theme,
            preferences.density,
            preferences.has_keys,
        )

    async def preferences_of(self, user_id: UUID) -> Preferences:
        row = await self.connection.fetchrow(
            "select theme, density, has_keys from preferences where user_id = $1", user_id
        )
        return Preferences(row["theme"], row["density"], row["has_keys"]) if row else Preferences()


def _sign_in(row: asyncpg.Record) -> SignIn:
    return SignIn(
        row["state"], row["nonce"], row["verifier"], row["back_to"], row["began_at"], row["subject"] or ""
    )


def _session(row: asyncpg.Record) -> Session:
    return Session(
        row["session_id"],
        Person(row["issuer"], row["subject"], row["user_id"], row["login"], row["name"]),
        row["began_at"],
        row["authenticated_at"],
        row["used_at"],
        row["resolved_at"],
        row["ends_at"],
        row["locked"],
    )
