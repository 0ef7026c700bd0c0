-- Agendas kept here: what a practice says once, and which slots were cut out of it.

create table agenda (
    source        text not null,
    name          text not null,
    professional  text,
    structure     text,
    -- as the API takes it, with what the quick actions added; times are on the wall clock of the place
    document      json not null,
    version       int not null default 1,
    changed_at    timestamptz not null,
    changed_by    text not null references api_key (id),
    -- what of it is published: the version, until when it was cut, what that changed
    shown_version int not null default 0,
    shown_until   timestamptz not null default '-infinity',
    shown_at      timestamptz,
    report        json,
    -- why it could not be published; what was published stays, and it is tried again from then on
    failed        text,
    again_at      timestamptz not null default '-infinity',
    -- the calendar it subscribes to (address and minutes), when it is read next, last was in good state, why it is not
    feed          text,
    feed_next     timestamptz,
    feed_good_at  timestamptz,
    feed_failed   text,
    primary key (source, name)
);
create index agenda_feed_due on agenda (feed_next) where feed is not null;
create index agenda_due on agenda (shown_until);

create table agenda_slot (
    slot_id bigint primary key references slot (id),
    source  text not null,
    name    text not null,
    starts  timestamptz not null
);
create index agenda_slot_of on agenda_slot (source, name, starts);

-- Write a version of an agenda. p_version: the one that was read (0: there is none yet); another one in force: 'conflict'.
create function put_agenda(p_now timestamptz, p_key text, p_source text, p_name text, p_professional text,
    p_structure text, p_document json, p_version int) returns text language plpgsql as $$
declare
    written boolean;
    -- whoever wrote it publishes it as well, and is told what that changed: others do so only if it died meanwhile
    own_turn constant interval := '30 seconds';
begin
    if p_version = 0 then
        insert into agenda (source, name, professional, structure, document, changed_at, changed_by, again_at)
        values (p_source, p_name, p_professional, p_structure, p_document, p_now, p_key, p_now + own_turn)
        on conflict (source, name) do nothing;
        written := found;
    else
        update agenda set professional = p_professional, structure = p_structure, document = p_document,
            version = version + 1, changed_at = p_now, changed_by = p_key, again_at = p_now + own_turn
        where source = p_source and name = p_name and version = p_version;
        written := found;
    end if;
    -- another calendar is read at once, and tells of itself alone
    update agenda set feed = p_document ->> 'feed', feed_next = '-infinity', feed_good_at = null, feed_failed = null
    where written and source = p_source and name = p_name and feed is distinct from p_document ->> 'feed';
    return case when written then 'written' else 'conflict' end;
end $$;

-- Publish what a version of an agenda says until p_until, and take back its other slots that have not started.
-- p_rows: as for upsert_slots. A slot taken back keeps its bookings (its free seats go), but for promised seats, which
-- move, and for those within [p_away_from, p_away_to): the practice is not there, their requests wait again. A range that
-- takes several patients counts as within only when all of it is.
-- outcome: 'shown' | 'outdated' (another version is in force: nothing was done).
create function sync_agenda(p_now timestamptz, p_source text, p_name text, p_version int, p_until timestamptz, p_rows json,
    p_away_from timestamptz[], p_away_to timestamptz[], out outcome text, out report json, out published outbox[])
language plpgsql as $$
declare lost bigint[]; closed bigint[]; ended uuid[]; told json; more outbox[]; a agenda;
begin
    -- what upsert_slots takes below, before any place: whoever sets a rule holds this and wants places
    perform pg_advisory_xact_lock_shared(20260002);
    select * from agenda where source = p_source and name = p_name and version = p_version into a for update;
    if not found then outcome := 'outdated'; return; end if;
    lost := array(
        with wanted as materialized (
            select d.external_id, d.territory from json_to_recordset(p_rows) as d(external_id text, territory text))
        select s.id from agenda_slot k join slot s on s.id = k.slot_id
            left join wanted w on w.external_id = s.external_id and w.territory = s.territory
        where k.source = p_source and k.name = p_name and k.starts > p_now and w.external_id is null);
    -- requests before slots: the lock order of every function here
    perform from request r where r.id in (
        select request_id from booking where slot_id = any(lost) and ended_at is null and state in ('promised', 'held', 'firm'))
    order by r.id for update;
    perform lock_places(lost);
    -- what the agenda offered no more, and then says anew, was thought over
    update slot set refused = false where id = any(lost) and refused;
    with gone as (
        update slot set status = 'withdrawn', changed_at = p_now, valid_at = greatest(valid_at, p_now),
            version = nextval('change_seq')
        where id = any(lost) and status = 'open' returning id
    ) select array_agg(id) from gone into closed;
    ended := array(
        select b.id from booking b join slot s on s.id = b.slot_id
        where b.slot_id = any(lost) and b.ended_at is null and b.state in ('promised', 'held', 'firm') and (
            b.state = 'promised' or exists (
                select from unnest(p_away_from, p_away_to) as away(begins, stops)
                where case when s.capacity = 1 then s.starts < stops and s.ends > begins
                           else s.starts >= begins and s.ends <= stops end)));
    published := coalesce((select array_agg(o) from refuse_bookings(p_now, ended, 'withdrawn', 'closed') o), '{}')
        || coalesce((select array_agg(o) from announce_gone(p_now, closed) o), '{}');
    -- the version that is locked above is the newest, whatever clock wrote the one before
    update slot s set valid_at = p_now from agenda_slot k
    where k.source = p_source and k.name = p_name and k.starts > p_now and s.id = k.slot_id and s.valid_at > p_now;
    -- an hour in which the practice refused a patient is not offered again by the same week, until it is put back
    p_rows := (select coalesce(json_agg(d), '[]') from json_array_elements(p_rows) d where not exists (
        select from slot s where s.source = p_source and s.external_id = d ->> 'external_id'
            and s.refused and s.status = 'withdrawn'));
    select u.verdicts, u.published from upsert_slots(p_now, p_source, p_rows) u into told, more;
    published := published || coalesce(more, '{}');
    insert into agenda_slot (slot_id, source, name, starts)
    select s.id, p_source, p_name, s.starts
    from json_to_recordset(p_rows) as d(external_id text) join slot s on s.source = p_source and s.external_id = d.external_id
    on conflict (slot_id) do nothing;
    select json_build_object(
        'created', count(*) filter (where v ->> 'outcome' = 'created'),
        'updated', count(*) filter (where v ->> 'outcome' = 'updated'),
        'unchanged', count(*) filter (where v ->> 'outcome' in ('unchanged', 'stale')),
        'booked', count(*) filter (where v ->> 'outcome' = 'booked'),
        'closed', coalesce(cardinality(closed), 0),
        'refused', cardinality(ended),
        'kept', (select count(*) from booking where slot_id = any(lost) and ended_at is null and state in ('held', 'firm')))
    from json_array_elements(coalesce(told, '[]')) v into report;
    update agenda set shown_version = p_version, shown_until = p_until, shown_at = p_now, report = sync_agenda.report,
        failed = null, again_at = '-infinity'
    where source = p_source and name = p_name;
    -- whoever works on these places sees at once what a colleague changed; of time that goes on nobody is told
    if a.shown_version <> p_version then
        with news as (
            insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
            select p_now, s.territory, 'events', 'agenda.changed', 'agenda:' || p_source || '/' || p_name, p_version, '',
                array_remove(array['src:' || p_source, 'p:' || a.professional, 's:' || a.structure], null),
                json_build_object('name', p_name, 'version', p_version, 'report', sync_agenda.report)::text
            from agenda_slot k join slot s on s.id = k.slot_id where k.source = p_source and k.name = p_name
            order by s.id limit 1
            returning outbox as line
        ) select published || array_agg(n.line) from news n having count(*) > 0 into more;
        published := coalesce(more, published);
    end if;
    outcome := 'shown';
end $$;
