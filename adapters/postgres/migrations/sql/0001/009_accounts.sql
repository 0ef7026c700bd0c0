-- People who work on the pages: an account holds the rights of one key, whose secret nobody knows; sessions end by
-- themselves.

create table account (
    login      text primary key check (login ~ '^[a-z0-9][a-z0-9._@+-]{1,63}$'),
    key_id     text not null unique references api_key (id),
    -- scrypt record with its parameters; null: comes in by another door only
    password   text,
    -- "issuer subject" of an OpenID provider
    subject    text unique,
    -- wrong passwords since the last right one, and when the last of them came
    failures   int not null default 0,
    failed_at  timestamptz,
    created_at timestamptz not null
);

-- Browsers in which somebody has signed in to an account: their wrong passwords are counted apart, so that strangers' lock
-- nobody out who comes back.
create table known_browser (
    -- SHA-256 of the cookie's value; one browser may be known to several accounts (a shared desk)
    token_hash bytea not null,
    login      text not null references account (login),
    failures   int not null default 0,
    failed_at  timestamptz,
    seen_at    timestamptz not null,
    primary key (login, token_hash)
);

create table session (
    -- SHA-256 of the cookie's token
    token_hash bytea primary key,
    login      text not null references account (login),
    opened_at  timestamptz not null,
    -- last call that a person made, to the minute
    seen_at    timestamptz not null,
    ends_at    timestamptz not null
);
create index session_of on session (login);
create index session_end on session (ends_at);
