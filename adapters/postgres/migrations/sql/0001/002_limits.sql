-- Limits of practices: how many patients, visits or children a professional, a centre or a CPTS takes in a day or half a
-- day. What is taken is counted from the bookings each time, never kept: whoever counts holds the row of the limit.

create table practice_limit (
    id       bigint generated always as identity primary key,
    source   text not null,
    name     text not null,
    counts   text not null check (counts in ('patients', 'visits', 'children')),
    period   text not null check (period in ('day', 'half_day')),
    -- at most so many; or at most so many percent of the places that are published for the period
    most     int check (most between 0 and 10000),
    share    int check (share between 0 and 100),
    -- whose clock begins the day
    zone     text not null,
    -- an editor that speaks for anybody limits its own slots only
    own_only boolean not null,
    version  bigint not null,
    check ((most is null) <> (share is null)),
    constraint limit_of_source unique (source, name)
);

-- Whose patients count: 'p:' professional or 's:' structure.
create table limit_member (
    member   text not null,
    limit_id bigint not null references practice_limit (id) on delete cascade,
    primary key (member, limit_id)
);
create index member_of_limit on limit_member (limit_id);

-- Periods in which nothing is left, so that a place knows without counting; kept by whoever changes what is taken, under
-- the limit's lock. Of limits that close places for everybody ('children' closes none).
create table limit_closed (
    limit_id bigint not null references practice_limit (id) on delete cascade,
    starts   timestamptz not null,
    primary key (limit_id, starts)
);

-- When the day, or the half of it, began that an instant lies in. An agenda's halves meet at 13 h.
create function period_start(p_period text, p_zone text, p_at timestamptz) returns timestamptz language sql immutable as $$
    select (date_trunc('day', p_at at time zone p_zone)
            + case when p_period = 'half_day' and (p_at at time zone p_zone)::time >= '13:00' then interval '13 hours'
                   else interval '0' end) at time zone p_zone
$$;

-- When the period ends that began at p_start.
create function period_end(p_period text, p_zone text, p_start timestamptz) returns timestamptz language sql immutable as $$
    select (date_trunc('day', p_start at time zone p_zone)
            + case when p_period = 'half_day' and (p_start at time zone p_zone)::time < '13:00' then interval '13 hours'
                   else interval '1 day' end) at time zone p_zone
$$;

create function is_child(r request) returns boolean language sql immutable as $$
    select coalesce(r.age_band in ('nourrisson', 'enfant'), false) or r.needs && array['nourrisson', 'enfant']
$$;

-- The limits over some slots, each with the period that the slot starts in. A limit on visits is also over the other
-- slots of its members (its share counts their places), which it does not close.
create function limits_over(p_slots bigint[])
returns table (slot_id bigint, limit_id bigint, starts timestamptz, counts text, closes boolean) language sql stable as $$
    select distinct s.id, l.id, period_start(l.period, l.zone, s.starts), l.counts,
        l.counts = 'patients' or (l.counts = 'visits' and s.mode = 'visite')
    from unnest(p_slots) u(id) join slot s on s.id = u.id
    join limit_member m on m.member in ('p:' || s.professional, 's:' || s.structure)
    join practice_limit l on l.id = m.limit_id and (s.source = l.source or not l.own_only)
$$;

-- The open slots of some members that start in [p_from, p_to); p_source null: of all sources.
create function slots_of_members(p_members text[], p_source text, p_from timestamptz, p_to timestamptz)
returns setof slot language sql stable as $$
    select s.* from slot s where s.id in (
        select o.id from unnest(p_members) m(member) cross join lateral (
            -- by its index each, member by member (see with_siblings)
            select p.id from slot p
            where m.member like 'p:%' and p.professional = substr(m.member, 3) and p.starts >= p_from and p.starts < p_to
              and p.status = 'open' and p.capacity = 1
            union all
            select p.id from slot p
            where m.member like 'p:%' and p.professional = substr(m.member, 3) and p.starts >= p_from and p.starts < p_to
              and p.status = 'open' and p.capacity > 1
            union all
            select c.id from slot c
            where m.member like 's:%' and c.structure = substr(m.member, 3) and c.starts >= p_from and c.starts < p_to
              and c.status = 'open'
            offset 0) o)
      and (p_source is null or s.source = p_source)
$$;

-- The slots of some members that were taken back and start in [p_from, p_to); p_source null: of all sources.
create function withdrawn_of_members(p_members text[], p_source text, p_from timestamptz, p_to timestamptz)
returns setof slot language sql stable as $$
    select s.* from slot s where s.id in (
        select o.id from unnest(p_members) m(member) cross join lateral (
            select p.id from slot p
            where m.member like 'p:%' and p.professional = substr(m.member, 3) and p.starts >= p_from and p.starts < p_to
              and p.status = 'withdrawn'
            union all
            select c.id from slot c
            where m.member like 's:%' and c.structure = substr(m.member, 3) and c.starts >= p_from and c.starts < p_to
              and c.status = 'withdrawn'
            offset 0) o)
      and (p_source is null or s.source = p_source)
$$;

create function slots_under(l practice_limit, p_from timestamptz, p_to timestamptz) returns setof slot language sql stable as $$
    select * from slots_of_members(
        array(select member from limit_member where limit_id = l.id), case when l.own_only then l.source end, p_from, p_to)
$$;

-- The slots in which a limit counts patients: those, and the ones taken back whose patients were kept (``sync_agenda``).
create function slots_counted(l practice_limit, p_from timestamptz, p_to timestamptz) returns setof slot language sql stable as $$
    select * from slots_under(l, p_from, p_to)
    union all
    select * from withdrawn_of_members(
        array(select member from limit_member where limit_id = l.id), case when l.own_only then l.source end, p_from, p_to)
$$;

-- How many a limit lets in during a period, and how many it has. Exact for whoever holds the limit's row.
create function limit_state(p_limit bigint, p_starts timestamptz, out most int, out taken int) language plpgsql stable as $$
declare l practice_limit; until timestamptz;
begin
    select * from practice_limit where id = p_limit into l;
    until := period_end(l.period, l.zone, p_starts);
    most := l.most;
    if most is null then
        most := (select l.share * coalesce(sum(s.capacity), 0) / 100 from slots_under(l, p_starts, until) s);
    end if;
    -- slot by slot, by its index
    if l.counts = 'children' then
        taken := (select coalesce(sum(k.number), 0) from slots_counted(l, p_starts, until) s cross join lateral (
            select count(*) as number from booking b join request r on r.id = b.request_id
            where b.slot_id = s.id and b.ended_at is null and is_child(r)) k);
    else
        taken := (select coalesce(sum(k.number), 0) from slots_counted(l, p_starts, until) s cross join lateral (
            select count(*) as number from booking b where b.slot_id = s.id and b.ended_at is null) k
            where l.counts = 'patients' or s.mode = 'visite');
    end if;
end $$;

create function limit_left(p_limit bigint, p_starts timestamptz) returns int language sql stable as $$
    select greatest(0, most - taken) from limit_state(p_limit, p_starts)
$$;

-- Whether a request that has just changed from one slot (p_before, null: from none) to another is one too many there. Where it
-- counted before it adds nobody: a limit that was made smaller than what is booked leaves it such moves. The caller has given
-- it the new seat already, and holds the locks.
create function one_too_many(r request, p_slot bigint, p_before bigint) returns boolean language sql stable as $$
    select exists (
        select from limits_over(array[p_slot]) o cross join lateral limit_state(o.limit_id, o.starts) t
        where (o.closes or (o.counts = 'children' and is_child(r))) and t.taken > t.most
          and (o.limit_id, o.starts) not in (
              select k.limit_id, k.starts from limits_over(array[p_before]) k
              where k.closes or (k.counts = 'children' and is_child(r))))
$$;

-- Whether a limit that is reached closes a slot for everybody.
create function is_closed(s slot) returns boolean language sql stable as $$
    select exists (
        select from limit_member m
        join limit_closed c on c.limit_id = m.limit_id and c.starts <= s.starts
        join practice_limit l on l.id = m.limit_id and (s.source = l.source or not l.own_only)
        where m.member in ('p:' || s.professional, 's:' || s.structure)
          and c.starts = period_start(l.period, l.zone, s.starts) and (l.counts = 'patients' or s.mode = 'visite'))
$$;

-- How a limit looks to its practice: the coming periods for which it has open places, with what is taken.
create function limit_json(l practice_limit, p_now timestamptz) returns json language sql stable as $$
    select json_build_object(
        'name', l.name, 'counts', l.counts, 'period', l.period, 'most', l.most, 'share', l.share, 'zone', l.zone,
        'professionals', array(select substr(member, 3) from limit_member where limit_id = l.id and member like 'p:%' order by 1),
        'structures', array(select substr(member, 3) from limit_member where limit_id = l.id and member like 's:%' order by 1),
        'periods', coalesce((select json_agg(json_build_object(
                'from', p.starts, 'to', period_end(l.period, l.zone, p.starts), 'most', t.most, 'taken', t.taken)
                order by p.starts)
            from (select distinct period_start(l.period, l.zone, s.starts) as starts
                  from slots_under(l, p_now, p_now + interval '7 days') s) p
            cross join lateral limit_state(l.id, p.starts) t), '[]'))
$$;

-- What a matcher must know of a limit, without what is left.
create function limit_definition(l practice_limit) returns json language sql stable as $$
    select json_build_object('id', l.id, 'version', l.version, 'counts', l.counts, 'period', l.period, 'zone', l.zone,
        'source', case when l.own_only then l.source end,
        'members', array(select member from limit_member where limit_id = l.id order by member))
$$;
