-- The practice's side: publish, withdraw, refuse, say what became of a booking.

-- Publish or change slots of one source. p_rows: array of objects with the columns of `slot`, at most once each
-- external_id (of another editor's places also ``link``, where they are booked). p_professionals and p_structures: whose
-- slots the publisher may change (null: all of the source); a known one of somebody else is 'not_yours', and of it nothing
-- is told. An older valid_at than the stored one is 'stale'; time, place or person of a booked slot cannot change
-- ('booked': withdraw it first), nor the territory of an open one ('other_territory': withdraw it first); an equal row is
-- 'unchanged' (only checked_at and valid_at move).
-- verdicts: [{"n", "outcome": created|updated|unchanged|stale|booked|other_territory|not_yours, "slot_id"}].
create function upsert_slots(p_now timestamptz, p_source text, p_rows json, p_professionals text[] default null,
    p_structures text[] default null, out verdicts json, out published outbox[])
language plpgsql as $$
declare known_ids bigint[]; changed bigint[]; lost bigint;
begin
    -- a rule that is being set (put_share_rule) sees these places, or they are judged by it
    perform pg_advisory_xact_lock_shared(20260002);
    -- locked in a statement of its own: the next one then sees every booking that could be made before. With those that
    -- will be siblings: their bookings decide how many seats are left
    with incoming as (
        select d.* from json_to_recordset(p_rows) as d(
            external_id text, professional text, starts timestamptz, ends timestamptz, capacity int)
    ), wanted as (
        select s.id from incoming i join slot s on s.source = p_source and s.external_id = i.external_id
    ), locked as (
        select s.id, s.source, s.external_id from slot s
        where s.id in (
            select id from wanted
            union
            select o.id from incoming i cross join lateral (
                select near.id from slot near
                where i.capacity = 1 and near.professional = i.professional and near.capacity = 1
                  and near.status = 'open' and near.starts < i.ends and near.ends > i.starts
                  and near.starts > i.starts - interval '24 hours'
                -- the index, row by row (see with_siblings)
                offset 0) o)
        order by s.id for update
    )
    select array_agg(id) from locked where id in (select id from wanted) into known_ids;
    if exists (select from practice_limit) then
        perform from practice_limit where id in (
            select m.limit_id from json_to_recordset(p_rows) as d(professional text, structure text)
            join limit_member m on m.member in ('p:' || d.professional, 's:' || d.structure)) order by id for update;
    end if;
    with incoming as (
        select * from rows from (json_to_recordset(p_rows) as (
            external_id text, territory text, professional text, professional_name text, structure text,
            structure_name text, source_kind text, lat double precision, lon double precision, landmass smallint,
            insee text, label text, phone text, starts timestamptz, ends timestamptz, capacity int, mode text,
            booking_kind text, profession text, specialty text, offers text[], visibility text, valid_at timestamptz,
            acceptance text, accept_min int, back_at timestamptz))
            with ordinality as d(external_id, territory, professional, professional_name, structure, structure_name,
                source_kind, lat, lon, landmass, insee, label, phone, starts, ends, capacity, mode, booking_kind,
                profession, specialty, offers, visibility, valid_at, acceptance, accept_min, back_at, n)
    ), known as (
        select s.* from slot s join unnest(known_ids) k(id) on k.id = s.id
    ), judged as (
        select i.*, k.id as known_id, case
            when k.id is null then 'created'
            when p_professionals is not null
                and (k.professional = any(p_professionals) or k.structure = any(p_structures)) is not true then 'not_yours'
            when i.valid_at < k.valid_at then 'stale'
            when k.status = 'open' and i.territory <> k.territory then 'other_territory'
            when k.status = 'open' and (i.territory, i.professional, i.professional_name, i.structure, i.structure_name,
                    i.source_kind, i.lat, i.lon, i.insee, i.label, i.phone, i.starts, i.ends, i.capacity, i.mode,
                    i.booking_kind, i.profession, i.specialty, i.offers, i.visibility, i.acceptance, i.accept_min, i.back_at)
                is not distinct from (k.territory, k.professional, k.professional_name, k.structure, k.structure_name,
                    k.source_kind, k.lat, k.lon, k.insee, k.label, k.phone, k.starts, k.ends, k.capacity, k.mode,
                    k.booking_kind, k.profession, k.specialty, k.offers, k.visibility, k.acceptance, k.accept_min, k.back_at)
                then 'unchanged'
            when (i.territory, i.professional, i.structure, i.lat, i.lon, i.starts, i.ends, i.mode, i.profession, i.capacity = 1)
                is distinct from (k.territory, k.professional, k.structure, k.lat, k.lon, k.starts, k.ends, k.mode,
                    k.profession, k.capacity = 1)
                and exists (select from booking b where b.slot_id = k.id and b.ended_at is null) then 'booked'
            else 'updated' end as outcome
        from incoming i left join known k on k.external_id = i.external_id
    ), seen as (
        update slot s set checked_at = p_now, valid_at = j.valid_at from judged j
        where s.id = j.known_id and j.outcome = 'unchanged' and s.valid_at < j.valid_at
    ), created as (
        insert into slot (source, external_id, territory, professional, professional_name, structure, structure_name,
            source_kind, lat, lon, landmass, insee, label, phone, starts, ends, capacity, mode, booking_kind, profession,
            specialty, offers, visibility, valid_at, acceptance, accept_min, back_at, checked_at, changed_at, version)
        select p_source, external_id, territory, professional, professional_name, structure, structure_name, source_kind,
            lat, lon, landmass, insee, label, phone, starts, ends, capacity, mode, booking_kind, profession, specialty,
            offers, visibility, valid_at, acceptance, accept_min, back_at, p_now, p_now, nextval('change_seq')
        from judged where outcome = 'created' order by external_id
        on conflict (source, external_id) do nothing
        returning id, external_id
    ), updated as (
        update slot s set
            territory = j.territory, professional = j.professional, professional_name = j.professional_name,
            structure = j.structure, structure_name = j.structure_name, source_kind = j.source_kind, lat = j.lat,
            lon = j.lon, landmass = j.landmass, insee = j.insee, label = j.label, phone = j.phone, starts = j.starts,
            ends = j.ends, capacity = j.capacity,
            cut_to = case when s.status <> 'open' then null when j.capacity < s.capacity then least(s.cut_to, j.capacity)
                else s.cut_to end,
            mode = j.mode, booking_kind = j.booking_kind,
            profession = j.profession, specialty = j.specialty, offers = j.offers, visibility = j.visibility,
            acceptance = j.acceptance, accept_min = j.accept_min, back_at = j.back_at,
            -- other words leave handed back what is; another hour, or another rule, begins anew
            handed_back = case when s.status = 'open' and (s.starts, s.back_at) is not distinct from (j.starts, j.back_at)
                then s.handed_back end,
            valid_at = j.valid_at, checked_at = p_now, changed_at = p_now, version = nextval('change_seq'), status = 'open',
            refused = false
        from judged j where s.id = j.known_id and j.outcome = 'updated'
        returning s.id
    )
    select (select array_agg(id) from (select id from created union all select id from updated) w),
           (select count(*) from judged j where j.outcome = 'created')
               - (select count(*) from created),
           (select json_agg(json_build_object('n', j.n - 1, 'outcome', j.outcome, 'slot_id',
                                case when j.outcome <> 'not_yours' then coalesce(c.id, j.known_id) end) order by j.n)
              from judged j left join created c on c.external_id = j.external_id)
    into changed, lost, verdicts;
    if lost > 0 then
        raise exception 'another writer created the same slot' using errcode = 'serialization_failure';
    end if;
    if p_source like 'fhir:%' then
        insert into editor_link (slot_id, url)
        select s.id, d.link from json_to_recordset(p_rows) as d(external_id text, link text)
        join slot s on s.source = p_source and s.external_id = d.external_id where d.link is not null
        on conflict (slot_id) do update set url = excluded.url where editor_link.url <> excluded.url;
    end if;
    if exists (select from share_rule) then perform share_slots(p_now, changed); end if;
    select array_agg(o) from announce_places(p_now, changed) o into published;
    -- a share counts the places of the period
    published := published || (select array_agg(o) from announce_limits(p_now, changed) o);
end $$;

-- Announce whole places (published or changed), at most 200 a message.
create function announce_places(p_now timestamptz, p_slots bigint[]) returns setof outbox language sql as $$
    with numbered as (
        select s as place, s.territory, (row_number() over (partition by s.territory order by s.id) - 1) / 200 as page
        from slot s where s.id = any(p_slots)
    )
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    select p_now, territory, 'places', 'published', '', 0, '', '{}',
           json_agg(json_build_array(place_json(place), place_left(place)))::text
    from numbered group by territory, page order by territory, page
    returning *
$$;

-- Why a practice refused that its other hours would not change: its professional is not proposed to this patient again.
create function refuses_patient(p_reason text) returns boolean language sql immutable as $$
    select p_reason in ('outside_competence', 'too_far', 'not_accepted')
$$;

-- End the bookings on some slots by the practice's act; requests still in time wait again and never get these back.
create function refuse_bookings(p_now timestamptz, p_bookings uuid[], p_state text, p_reason text)
returns setof outbox language plpgsql as $$
declare b record;
begin
    perform from request r where r.id in (select request_id from booking where id = any(p_bookings)) order by r.id for update;
    perform lock_places(array(select slot_id from booking where id = any(p_bookings)));
    for b in select k.id, k.request_id, k.slot_id, k.professional from booking k
             where k.id = any(p_bookings) and k.state in ('promised', 'held', 'firm') and k.ended_at is null order by k.id loop
        return query select * from release_booking(p_now, b.id, p_state, p_reason, 'waiting', array_remove(
            array['s' || b.slot_id, case when refuses_patient(p_reason) then 'p' || b.professional end], null));
        return query select * from announce_requests(p_now, array[b.request_id], 'request.reopened');
    end loop;
end $$;

-- Withdraw slots of one source: free places vanish, bookings on them end, their requests are open again. What has begun
-- stays: whoever is there is being seen, or was.
-- p_only null: all open slots of the source that start in [p_from, p_to) and later than now.
-- verdicts: [{"external_id", "outcome": withdrawn|begun|not_found}].
create function withdraw_slots(p_now timestamptz, p_source text, p_only text[], p_from timestamptz, p_to timestamptz,
    p_professionals text[], p_structures text[], p_reason text, out verdicts json, out published outbox[])
language plpgsql as $$
declare gone bigint[]; bookings uuid[];
begin
    -- requests before slots: the lock order of every function here
    perform from request r where r.id in (
        select b.request_id from booking b join slot s on s.id = b.slot_id
        where s.source = p_source and b.ended_at is null and b.state in ('promised', 'held', 'firm') and s.starts > p_now
          and (s.external_id = any(p_only) or (p_only is null and s.starts >= p_from and s.starts < p_to)))
    order by r.id for update;
    perform lock_places(array(select id from slot s where source = p_source and status = 'open' and starts > p_now
        and (external_id = any(p_only) or (p_only is null and starts >= p_from and starts < p_to))
        and (p_professionals is null or professional = any(p_professionals) or structure = any(p_structures))));
    with mine as (
        select id from slot s where source = p_source and status = 'open' and starts > p_now
          and (external_id = any(p_only) or (p_only is null and starts >= p_from and starts < p_to))
          and (p_professionals is null or professional = any(p_professionals) or structure = any(p_structures))
        order by id for update
    ), done as (
        update slot s set status = 'withdrawn', changed_at = p_now, valid_at = greatest(valid_at, p_now),
            version = nextval('change_seq')
        from mine where s.id = mine.id returning s.id, s.external_id
    )
    select (select array_agg(id) from done),
        (select json_agg(json_build_object('external_id', e, 'outcome',
            case when d.id is not null then 'withdrawn'
                when exists (select from slot s where s.source = p_source and s.external_id = w.e and s.status = 'open'
                    and s.starts <= p_now
                    and (p_professionals is null or s.professional = any(p_professionals) or s.structure = any(p_structures)))
                then 'begun' else 'not_found' end))
         from (select unnest(p_only) union select external_id from done) w(e) left join done d on d.external_id = w.e)
    into gone, verdicts;
    select array_agg(id) from booking
    where slot_id = any(gone) and ended_at is null and state in ('promised', 'held', 'firm') into bookings;
    if bookings is not null then
        published := (select array_agg(o) from refuse_bookings(p_now, bookings, 'withdrawn', p_reason) o);
    end if;
    published := coalesce(published, '{}') || coalesce((select array_agg(o) from announce_gone(p_now, gone) o), '{}');
end $$;

create function announce_gone(p_now timestamptz, p_slots bigint[]) returns setof outbox language plpgsql as $$
begin
    return query insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
        select p_now, territory, 'places', 'gone', '', 0, '', '{}', json_agg(json_build_array(id, version) order by id)::text
        from slot where id = any(p_slots) group by territory order by territory
        returning *;
    return query select * from announce_limits(p_now, p_slots);
end $$;

-- Lock the request of a booking and, where its place goes with it (p_closes), those of the promises there: requests before
-- places, each kind at once.
create function lock_requests_of(p_booking uuid, p_closes boolean) returns void language plpgsql as $$
begin
    perform from request r where r.id in (
        select request_id from booking where id = p_booking
        union
        select o.request_id from booking b join booking o on o.slot_id = b.slot_id
        where p_closes and b.id = p_booking and o.ended_at is null and o.state = 'promised')
    order by r.id for update;
end $$;

-- The practice refuses a booking. p_keep: its place is still good for others; else the slot is withdrawn with it. Unsaid,
-- an hour goes, and a plage stays: who refuses one patient does not mean the others.
create function refuse_booking(p_now timestamptz, p_booking uuid, p_reason text, p_keep boolean,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare b booking; closes boolean;
begin
    closes := not coalesce(p_keep,
        (select s.capacity > 1 from booking k join slot s on s.id = k.slot_id where k.id = p_booking));
    perform lock_requests_of(p_booking, closes);
    select * from booking where id = p_booking into b;
    -- of the seat behind a promise the practice knows nothing
    if b.id is null or b.state in ('promised', 'moved', 'displaced') then outcome := 'not_found'; return; end if;
    if b.state = 'refused' then outcome := 'already';
    elsif b.state not in ('held', 'firm') or b.ended_at is not null then outcome := 'conflict';
    -- who is there is being seen, or did not come
    elsif exists (select from slot where id = b.slot_id and starts <= p_now) then outcome := 'begun';
    else
        published := (select array_agg(o) from refuse_bookings(p_now, array[p_booking], 'refused', p_reason) o);
        if closes then
            published := published || coalesce((select array_agg(o) from take_off(p_now, array[b.slot_id]) o), '{}');
        end if;
        outcome := 'refused';
    end if;
    select booking_json(k) from booking k where k.id = p_booking into document;
end $$;

-- Take slots off the market because their practice refused somebody there, or gave up the place of who called off. Who has
-- a seat keeps it; of promises the practice takes it away, as when it withdraws: they wait again and are told at once.
create function take_off(p_now timestamptz, p_slots bigint[]) returns setof outbox language plpgsql as $$
declare gone bigint[];
begin
    with done as (
        update slot set status = 'withdrawn', refused = true, changed_at = p_now, valid_at = greatest(valid_at, p_now),
            version = nextval('change_seq')
        where id = any(p_slots) and status = 'open' returning id
    ) select array_agg(id) from done into gone;
    return query select * from refuse_bookings(p_now, array(
        select id from booking where slot_id = any(gone) and ended_at is null and state = 'promised'), 'withdrawn', 'closed');
    return query select * from announce_gone(p_now, gone);
end $$;

-- The practice says whether the patient came. Allowed from the start of the slot; may be corrected.
create function set_outcome(p_now timestamptz, p_booking uuid, p_state text,
    out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare b booking; s slot;
begin
    perform from request r where r.id = (select request_id from booking where id = p_booking) for update;
    select * from booking where id = p_booking into b;
    if b.id is null then outcome := 'not_found'; return; end if;
    select * from slot where id = b.slot_id into s;
    if b.state = p_state then outcome := 'already';
    elsif b.state not in ('firm', 'fulfilled', 'noshow') then outcome := 'conflict';
    elsif s.starts > p_now then outcome := 'too_early';
    else
        update booking set state = p_state, version = version + 1 where id = b.id;
        update request set status = p_state, version = version + 1 where id = b.request_id;
        published := (select array_agg(o) from announce_requests(p_now, array[b.request_id], null) o)
            || (select array_agg(o) from announce_bookings(p_now, array[b.id]) o);
        outcome := p_state;
    end if;
    select booking_json(k) from booking k where k.id = p_booking into document;
end $$;

-- Leases. Take or renew those of p_territories that are free, expired or ours; returns what this holder has, with fences.
-- The clock is the database's: it is the one that all holders share.
create function take_leases(p_holder text, p_territories text[], p_seconds double precision)
returns table (territory text, fence bigint) language plpgsql as $$
begin
    -- renewed by a statement that does not name the fence: one that does locks the row as if it changed it, even to what it
    -- was, and claims that hold it would wait for the renewal of all, or it for them
    perform from lease l where l.holder = p_holder and l.territory = any(p_territories) order by l.territory for no key update;
    update lease l set until = clock_timestamp() + make_interval(secs => p_seconds)
    where l.holder = p_holder and l.until > clock_timestamp() and l.territory = any(p_territories);
    insert into lease as l (territory, holder, fence, until)
    select t, p_holder, nextval('fence_seq'), clock_timestamp() + make_interval(secs => p_seconds)
    from unnest(p_territories) t
    where not exists (select from lease o where o.territory = t and o.holder = p_holder and o.until > clock_timestamp())
    order by t
    on conflict on constraint lease_pkey do update set
        holder = excluded.holder, until = excluded.until, fence = excluded.fence
    where l.until <= clock_timestamp();
    return query select l.territory, l.fence from lease l
        where l.holder = p_holder and l.until > clock_timestamp() and l.territory = any(p_territories);
end $$;
