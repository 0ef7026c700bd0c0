-- The national platform over FHIR: what it may read, the regulators it names (INT_R02), what it is told (INT_R03).

-- Of a place known by its id only (a row of a subquery is no row of the table to the function).
create function seats_left(p_slot bigint) returns int language sql stable as $$
    select place_left(s) from slot s where s.id = p_slot
$$;

create index slot_of_sos on slot (structure, starts) where status = 'open' and source_kind = 'sos';

-- Regulators as the national platform names them. Uniqueness counts among active accounts only.
create table regulator_account (
    id         uuid primary key,
    -- idNat_PS; establishment style for those without a card
    national   text,
    -- id that the platform gave
    technical  text,
    family     text not null,
    given      text not null,
    email      text not null,
    active     boolean not null,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    version    int not null default 1,
    check (national is not null or technical is not null)
);
create unique index regulator_account_national on regulator_account (national) where active;
create unique index regulator_account_technical on regulator_account (technical) where active;
create unique index regulator_account_email on regulator_account (lower(email)) where active;
create index regulator_account_by_national on regulator_account (national);
create index regulator_account_by_technical on regulator_account (technical);

-- Which account a conditional update means: who holds the identifier of its address; else who holds one of its body (the
-- same update sent again, after it changed the identifier); else who holds the value under the other system (the
-- platform's test kit does that). Active ones before disabled ones, the newest of these.
create function account_meant(p_national text, p_technical text, p_body_national text, p_body_technical text)
returns uuid language sql stable as $$
    select a.id from regulator_account a cross join lateral (select case
            when a.national = p_national or a.technical = p_technical then 1
            when a.national = p_body_national or a.technical = p_body_technical then 2
            when a.national = p_technical or a.technical = p_national then 3 end as rank) r
    where a.national in (p_national, p_technical, p_body_national)
       or a.technical in (p_technical, p_national, p_body_technical)
    order by not a.active, r.rank, a.changed_at desc limit 1
$$;

-- Create or change an account. p_search: null to create, else [national, technical] of the address, one of them null.
-- outcome: 'created' | 'changed' | 'unchanged' | 'duplicate_identifier' | 'duplicate_email'
create function save_account(p_now timestamptz, p_id uuid, p_search text[], p_national text, p_technical text, p_family text,
    p_given text, p_email text, p_active boolean, out outcome text, out account uuid)
language plpgsql as $$
declare violated text;
begin
    -- one after the other: accounts change ten times a day, and look-up and insert must see the same world
    perform pg_advisory_xact_lock(20260001);
    if p_search is not null then
        select account_meant(p_search[1], p_search[2], p_national, p_technical) into account;
    end if;
    if account is null then
        account := p_id;
        insert into regulator_account (id, national, technical, family, given, email, active, created_at, changed_at)
        values (p_id, p_national, p_technical, p_family, p_given, p_email, p_active, p_now, p_now);
        outcome := 'created';
    else
        update regulator_account set national = p_national, technical = p_technical, family = p_family, given = p_given,
            email = p_email, active = p_active, changed_at = p_now, version = version + 1
        where id = account and (national, technical, family, given, email, active)
            is distinct from (p_national, p_technical, p_family, p_given, p_email, p_active);
        outcome := case when found then 'changed' else 'unchanged' end;
    end if;
exception when unique_violation then
    get stacked diagnostics violated = constraint_name;
    account := null;
    outcome := case when violated = 'regulator_account_email' then 'duplicate_email' else 'duplicate_identifier' end;
end $$;
