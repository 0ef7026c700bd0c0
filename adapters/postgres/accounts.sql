-- name: account
-- One account with its key; wrong passwords are those of this browser where it is known to the account.
select a.login, a.password, coalesce(b.failures, a.failures), case when b.login is null then a.failed_at else b.failed_at end,
       k.id, k.secret_hash, k.name, k.role, k.territories, k.structures,
       k.professionals, k.source, k.expires_at, k.revoked_at, k.ingest_hash
from account a join api_key k on k.id = a.key_id left join known_browser b on b.login = a.login and b.token_hash = $2
where a.login = $1

-- name: account_of_subject
select a.login, a.password, a.failures, a.failed_at, k.id, k.secret_hash, k.name, k.role, k.territories, k.structures,
       k.professionals, k.source, k.expires_at, k.revoked_at, k.ingest_hash
from account a join api_key k on k.id = a.key_id where a.subject = $1

-- name: accounts
-- All accounts in order of their logins.
select a.login, a.password, a.failures, a.failed_at, k.id, k.secret_hash, k.name, k.role, k.territories, k.structures,
       k.professionals, k.source, k.expires_at, k.revoked_at, k.ingest_hash
from account a join api_key k on k.id = a.key_id order by a.login

-- name: add_account
-- The account and its key at once; nothing when the login is taken.
with free as (select $1::text as login where not exists (select from account where login = $1)),
key as (
    insert into api_key (id, secret_hash, name, role, territories, structures, professionals, source, created_at)
    select $5, $6, $7, $8, $9, $10, $11, $12, $4 from free returning id
)
insert into account (login, key_id, password, subject, created_at)
select login, $5, $2, $3, $4 from free
-- the key's row is there at the end of the statement, when the reference is checked
where exists (select from key)
returning login

-- name: set_password
-- A new password ends the account's sessions, and no browser is known to it any more.
with gone as (delete from session where login = $1), unknown as (delete from known_browser where login = $1)
update account set password = $2, failures = 0, failed_at = null where login = $1 returning login

-- name: failed
-- Count a wrong password: for the browser where it is known to the account, else for the account.
with known as (
    update known_browser set failures = failures + 1, failed_at = $2 where login = $1 and token_hash = $3 returning login
)
update account set failures = failures + 1, failed_at = $2 where login = $1 and not exists (select from known)

-- name: passed
-- Forget wrong passwords where they were counted, and know this browser from now on (null: none that says so), among the
-- $4 that were seen last.
with known as (select from known_browser where login = $1 and token_hash = $3),
old as (
    delete from known_browser where login = $1 and token_hash in (
        select token_hash from known_browser where login = $1 and token_hash <> $3
        order by seen_at desc, token_hash offset $4::int - 1)
),
seen as (
    insert into known_browser (token_hash, login, seen_at) select $3, $1, $2 where $3::bytea is not null
    on conflict (login, token_hash) do update set failures = 0, failed_at = null, seen_at = excluded.seen_at
)
update account set failures = 0, failed_at = null where login = $1 and failures > 0 and not exists (select from known)

-- name: close_account
-- Its key is revoked, its sessions end; what it did keeps its name.
with gone as (delete from session where login = $1)
update api_key k set revoked_at = $2 from account a
where a.login = $1 and k.id = a.key_id and k.revoked_at is null returning k.id

-- name: open_session
with old as (delete from session where ends_at <= $3)
insert into session (token_hash, login, opened_at, seen_at, ends_at)
select $1, login, $3, $3, $4 from account where login = $2 returning login

-- name: session
-- A session with its account and key.
select s.opened_at, s.seen_at, s.ends_at, a.login, a.password, a.failures, a.failed_at, k.id, k.secret_hash, k.name,
       k.role, k.territories, k.structures, k.professionals, k.source, k.expires_at, k.revoked_at, k.ingest_hash
from session s join account a on a.login = s.login join api_key k on k.id = a.key_id where s.token_hash = $1

-- name: touch_session
update session set seen_at = $2 where token_hash = $1 and seen_at < $2

-- name: close_session
delete from session where token_hash = $1
