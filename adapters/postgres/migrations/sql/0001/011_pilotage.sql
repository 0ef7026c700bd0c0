-- What those who steer a territory look at: screens of crisis rooms, and recorded days that are studied.

-- A screen on a wall, which nobody touches: it reads figures of one territory, and nothing else.
create table wall_screen (
    -- SHA-256 of the cookie's token
    token_hash bytea primary key,
    id         uuid not null unique,
    territory  text not null,
    name       text not null check (name <> ''),
    -- whoever opened it; it goes dark with that key
    key_id     text not null references api_key (id),
    opened_at  timestamptz not null,
    ends_at    timestamptz not null
);
create index wall_screen_of on wall_screen (territory, ends_at);

-- Recorded days that somebody wants decided again: one cell for each day and way to decide.
create table study (
    id          uuid primary key,
    territory   text not null,
    days        date[] not null check (days <> '{}'),
    ways        text[] not null check (ways <> '{}'),
    key_id      text not null references api_key (id),
    asked_at    timestamptz not null,
    state       text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'stopped', 'failed')),
    -- cells that are there, and the part of the present one (0 to 1)
    done        int not null default 0,
    part        real not null default 0,
    -- whoever works on it has it until then
    claimed_until timestamptz,
    claims      int not null default 0,
    failure     text,
    finished_at timestamptz,
    check ((finished_at is null) = (state in ('waiting', 'running')))
);
create index study_of on study (territory, asked_at desc);
create index study_waiting on study (asked_at) where state in ('waiting', 'running');

-- What came of a cell: of the same file under the same version of the service it is never worked out twice.
create table study_cell (
    territory text not null,
    day       date not null,
    way       text not null,
    digest    text not null,
    figures   json not null,
    made_at   timestamptz not null,
    primary key (territory, day, way, digest)
);

-- What became of a request, in the five words of the figures.
create function outcome_of(p_status text) returns text language sql immutable as $$
    select case
        when p_status in ('firm', 'fulfilled', 'noshow') then 'met'
        when p_status in ('waiting', 'promised', 'held') then 'open'
        when p_status = 'unserved' then 'unmet'
        when p_status = 'lapsed' then 'dropped'
        else 'cancelled' end
$$;

-- The open places of some territories that begin in a time, each with the seats that are taken of it; of one whose
-- professional is booked over it, or that a limit closed, all are.
create function places_in(p_territories text[], p_from timestamptz, p_to timestamptz, p_structures text[])
returns table (territory text, insee text, profession text, mode text, source_kind text, capacity int, seats_left int,
    starts timestamptz) language sql stable as $$
    with live as (
        select s.id, s.territory, s.insee, s.profession, s.mode, s.source_kind, s.capacity, s.professional, s.starts,
            s.ends, exists (select from limit_closed) and is_closed(s) as closed
        from slot s
        where s.status = 'open' and s.for_request is null and s.territory = any(p_territories)
          and s.starts > p_from and s.starts <= p_to
          and (p_structures is null or s.structure = any(p_structures))
    ), taken as (
        -- found by their slots, these and the next: else all bookings that there ever were would be read
        select b.slot_id, count(*)::int as seats from booking b
        where b.slot_id = any(array(select id from live)) and b.ended_at is null group by b.slot_id
    ), of_theirs as (
        -- whose other hours may lie over them: slots last 24 hours at the most
        select array_agg(distinct 'p:' || professional) as members, p_from - interval '24 hours' as since
        from live where capacity = 1 and professional is not null
    ), busy as (
        select distinct l.id from booking b join live l on l.professional = b.professional and l.capacity = 1
          and tstzrange(l.starts, l.ends) && b.during
        where b.ended_at is null and b.during is not null and b.slot_id = any(array(
            select o.id from of_theirs t cross join lateral slots_of_members(t.members, null, t.since, p_to) o
            union all
            select o.id from of_theirs t cross join lateral withdrawn_of_members(t.members, null, t.since, p_to) o))
    )
    select l.territory, l.insee, l.profession, l.mode, l.source_kind, l.capacity,
        case when l.closed or b.id is not null then 0 else greatest(0, l.capacity - coalesce(t.seats, 0)) end, l.starts
    from live l left join taken t on t.slot_id = l.id left join busy b on b.id = l.id
$$;
