-- En sus: whom a practice lets be asked beyond its slots, who was asked for which request, and the ladder that a territory
-- climbs when no place fits. A yes becomes a slot and a hold by the ways that there are (upsert_slots, take_seats).

-- The consent of a practice: nobody is asked without one. Also the template of the slot that a yes becomes.
create table overflow (
    id                bigint generated always as identity primary key,
    source            text not null,
    name              text not null,
    territory         text not null,
    professional      text,
    professional_name text,
    structure         text,
    structure_name    text,
    source_kind       text not null,
    lat               double precision not null,
    lon               double precision not null,
    landmass          smallint not null,
    insee             text not null,
    label             text,
    phone             text,
    modes             text[] not null check (modes <> '{}'),
    profession        text not null,
    specialty         text,
    offers            text[] not null,
    -- a community (FINESS) whose members are asked together
    cpts              text,
    -- when questions may come, on the clock of `zone`: minutes of the day, and ISO days of the week; quiet otherwise
    zone              text not null,
    from_minute       int not null check (from_minute between 0 and 1439),
    to_minute         int not null check (to_minute between 1 and 1440),
    days              int[] not null check (days <> '{}' and days <@ array[1, 2, 3, 4, 5, 6, 7]),
    most_a_day        int not null check (most_a_day between 1 and 50),
    minutes           int not null check (minutes between 5 and 240),
    -- may also be called for extra capacity in a tension or a crisis
    crisis_calls      boolean not null default false,
    removed_at        timestamptz,
    check (from_minute < to_minute),
    check (professional is not null or structure is not null),
    constraint overflow_of_source unique (source, name)
);
create index overflow_near on overflow (profession, lat) where removed_at is null;
create index overflow_of_territory on overflow (profession, territory) where removed_at is null;

-- How far a request has climbed. `log`: what was done at each step, for its regulator.
create table asking (
    request_id uuid primary key references request (id),
    step       int not null,
    wave       int not null,
    next_at    timestamptz,
    state      text not null check (state in ('open', 'done')),
    log        jsonb not null default '[]',
    version    int not null default 1,
    check ((next_at is null) = (state = 'done'))
);

create table question (
    id          uuid primary key,
    request_id  uuid not null references request (id),
    overflow_id bigint not null references overflow (id),
    km          int not null,
    asked_at    timestamptz not null,
    -- whoever has not answered by then counts as no; a yes is good for as long as the request waits
    answer_by   timestamptz not null,
    state       text not null default 'asked' check (state in ('asked', 'accepted', 'refused', 'closed', 'released')),
    -- what was answered, also too late: acceptance rates learn from it
    said        text check (said in ('yes', 'no')),
    reason      text,
    booking_id  uuid references booking (id),
    answered_at timestamptz,
    version     int not null default 1,
    check ((state in ('accepted', 'released')) = (booking_id is not null)),
    -- the memory of who was asked
    constraint question_once unique (request_id, overflow_id)
);
create index question_of_overflow on question (overflow_id, asked_at);
create index question_open on question (request_id) where state = 'asked';
create index question_said_yes on question (asked_at) where state = 'accepted';

create table ladder (
    territory  text primary key,
    steps      jsonb not null default '[]' check (jsonb_typeof(steps) = 'array'),
    version    int not null default 0,
    changed_at timestamptz
);

-- Who changed a territory's ladder, when and why (as territory_setting_log).
create table ladder_log (
    territory text not null references ladder (territory),
    version   int not null,
    at        timestamptz not null,
    key_id    text not null references api_key (id),
    before    json not null,
    after     json not null,
    why       text not null check (why <> ''),
    primary key (territory, version)
);

create function overflow_json(o overflow) returns json language sql immutable as $$
    select json_build_object(
        'name', o.name, 'source', o.source, 'territory', o.territory, 'professional', o.professional,
        'professional_name', o.professional_name, 'structure', o.structure, 'structure_name', o.structure_name,
        'source_kind', o.source_kind, 'lat', o.lat, 'lon', o.lon, 'insee', o.insee, 'label', o.label, 'phone', o.phone,
        'modes', o.modes, 'profession', o.profession, 'specialty', o.specialty, 'offers', o.offers, 'cpts', o.cpts,
        'zone', o.zone, 'from_minute', o.from_minute, 'to_minute', o.to_minute, 'days', o.days,
        'most_a_day', o.most_a_day, 'minutes', o.minutes, 'crisis_calls', o.crisis_calls)
$$;

-- What the practice sees of a question: what it needs to say yes or no, nothing that tells who the patient is.
create function question_json(q question) returns json language sql stable as $$
    select json_build_object(
        'question_id', q.id, 'state', q.state, 'version', q.version, 'reason', q.reason, 'overflow', o.name,
        'territory', o.territory, 'professional', o.professional, 'structure', o.structure, 'km', q.km,
        'minutes', o.minutes, 'modes', array(select m from unnest(o.modes) m where m = any(r.modes)),
        'profession', r.profession, 'needs', r.needs, 'age_band', r.age_band, 'tier', r.tier, 'deadline', r.deadline,
        'own_patient', r.mt is not null and r.mt = o.professional,
        'asked_at', q.asked_at, 'answer_by', case when q.state = 'asked' then q.answer_by end,
        'answered_at', q.answered_at, 'booking_id', q.booking_id)
    from overflow o, request r where o.id = q.overflow_id and r.id = q.request_id
$$;

-- What its regulator sees: how many were asked, of how many, and when the next step comes.
create function asking_json(a asking) returns json language sql stable as $$
    select json_build_object(
        'request_id', a.request_id, 'state', a.state, 'step', a.step, 'wave', a.wave, 'next_at', a.next_at,
        'version', a.version, 'log', a.log,
        'asked', (select count(*) from question q where q.request_id = a.request_id),
        'refused', (select count(*) from question q where q.request_id = a.request_id and q.state = 'refused'),
        'open', (select count(*) from question q where q.request_id = a.request_id and q.state = 'asked'))
$$;

create function announce_questions(p_now timestamptz, p_questions uuid[]) returns setof outbox language sql as $$
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    select p_now, o.territory, 'events', 'question.' || q.state, q.id::text, q.version, '',
           array_remove(array['src:' || o.source, 'p:' || o.professional, 's:' || o.structure], null), question_json(q)::text
    from question q join overflow o on o.id = q.overflow_id
    where q.id = any(p_questions) order by q.id
    returning *
$$;

create function put_overflow(p_now timestamptz, p_row json, out document json) language plpgsql as $$
declare o overflow; n overflow;
begin
    n := json_populate_record(null::overflow, p_row);
    insert into overflow as k (source, name, territory, professional, professional_name, structure, structure_name,
        source_kind, lat, lon, landmass, insee, label, phone, modes, profession, specialty, offers, cpts, zone, from_minute,
        to_minute, days, most_a_day, minutes, crisis_calls)
    values (n.source, n.name, n.territory, n.professional, n.professional_name, n.structure, n.structure_name,
        n.source_kind, n.lat, n.lon, n.landmass, n.insee, n.label, n.phone, n.modes, n.profession, n.specialty, n.offers,
        n.cpts, n.zone, n.from_minute, n.to_minute, n.days, n.most_a_day, n.minutes,
        coalesce(n.crisis_calls, false))
    on conflict on constraint overflow_of_source do update set territory = excluded.territory,
        professional = excluded.professional, professional_name = excluded.professional_name,
        structure = excluded.structure, structure_name = excluded.structure_name, source_kind = excluded.source_kind,
        lat = excluded.lat, lon = excluded.lon, landmass = excluded.landmass, insee = excluded.insee,
        label = excluded.label, phone = excluded.phone, modes = excluded.modes, profession = excluded.profession,
        specialty = excluded.specialty, offers = excluded.offers, cpts = excluded.cpts, zone = excluded.zone,
        from_minute = excluded.from_minute, to_minute = excluded.to_minute, days = excluded.days,
        most_a_day = excluded.most_a_day, minutes = excluded.minutes,
        crisis_calls = excluded.crisis_calls, removed_at = null
    returning * into o;
    document := overflow_json(o);
end $$;

-- When the day began that an instant lies in, on the consent's clock.
create function overflow_day(o overflow, p_at timestamptz) returns timestamptz language sql immutable as $$
    select date_trunc('day', p_at at time zone o.zone) at time zone o.zone
$$;

-- Who may be asked for a request, with what is known of them: asked today, and what was answered so far.
create function overflow_candidates(p_now timestamptz, r request) returns json language sql stable as $$
    select coalesce(json_agg(json_build_object(
        'id', o.id, 'professional', o.professional, 'lat', o.lat, 'lon', o.lon, 'landmass', o.landmass, 'modes', o.modes,
        'cpts', o.cpts, 'zone', o.zone, 'from_minute', o.from_minute, 'to_minute', o.to_minute, 'days', o.days,
        'most_a_day', o.most_a_day, 'today', t.today, 'answered', t.answered, 'yes', t.yes) order by o.id), '[]')
    from overflow o
    cross join lateral (
        select count(*) filter (where q.asked_at >= overflow_day(o, p_now)) as today,
               count(*) filter (where q.said is not null or q.answer_by <= p_now) as answered,
               count(*) filter (where q.said = 'yes') as yes
        -- habits change: what was said a season ago says little
        from question q where q.overflow_id = o.id and q.asked_at > p_now - interval '90 days') t
    where o.removed_at is null and o.profession = r.profession
      -- as far as a step may reach (150 km; degrees of longitude as in the north of France), and all of the territory
      and ((o.lat between r.lat - 1.36 and r.lat + 1.36 and o.lon between r.lon - 2.2 and r.lon + 2.2)
           or o.territory = r.territory)
      and (r.specialty is null or o.specialty = r.specialty)
      and o.modes && r.modes and o.offers @> r.needs
      and (o.professional is null or not ('p' || o.professional) = any(r.excluded))
      and not exists (select from question q where q.request_id = r.id and q.overflow_id = o.id)
$$;

-- Take a step of the ladder for a request that waits: ask some, or tell its regulator what to propose.
-- p_was: the version of its asking that was read, 0 for none: of two who climb at once only one does.
-- p_questions: [{"id", "overflow_id", "km", "answer_by"}]. Nobody is asked more often a day than they allow.
-- outcome: 'advanced' | 'conflict' | 'not_waiting'.
create function advance_asking(p_now timestamptz, p_request uuid, p_was int, p_step int, p_wave int, p_next_at timestamptz,
    p_entry jsonb, p_questions json, out outcome text, out document json, out published outbox[]) language plpgsql as $$
declare r request; a asking; asked uuid[];
begin
    select * from request where id = p_request into r for update;
    if r.status is distinct from 'waiting' or r.deadline <= p_now then outcome := 'not_waiting'; return; end if;
    select * from asking where request_id = p_request into a;
    if coalesce(a.version, 0) <> p_was then outcome := 'conflict'; return; end if;
    -- whoever counts the questions of a day comes one after the other
    perform from overflow where id in (select overflow_id from json_to_recordset(p_questions) as d(overflow_id bigint))
    order by id for update;
    with new as (
        insert into question (id, request_id, overflow_id, km, asked_at, answer_by)
        select d.id, p_request, o.id, d.km, p_now, d.answer_by
        from json_to_recordset(p_questions) as d(id uuid, overflow_id bigint, km int, answer_by timestamptz)
        join overflow o on o.id = d.overflow_id and o.removed_at is null
        where (select count(*) from question q where q.overflow_id = o.id and q.asked_at >= overflow_day(o, p_now))
            < o.most_a_day
        on conflict do nothing returning id
    ) select array_agg(id) from new into asked;
    insert into asking as k (request_id, step, wave, next_at, state, log)
    values (p_request, p_step, p_wave, p_next_at, case when p_next_at is null then 'done' else 'open' end,
        jsonb_build_array(p_entry || jsonb_build_object('at', p_now, 'asked', coalesce(cardinality(asked), 0))))
    on conflict (request_id) do update set step = excluded.step, wave = excluded.wave, next_at = excluded.next_at,
        state = excluded.state, log = k.log || excluded.log, version = k.version + 1
    returning * into a;
    outcome := 'advanced';
    document := asking_json(a);
    published := coalesce((select array_agg(o) from announce_questions(p_now, asked) o), '{}')
        || (select array_agg(o) from announce_asking(p_now, p_request) o);
end $$;

create function announce_asking(p_now timestamptz, p_request uuid) returns setof outbox language sql as $$
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    select p_now, r.territory, 'events', 'asking.changed', 'asking:' || r.id, a.version, r.key_id, '{}', asking_json(a)::text
    from asking a join request r on r.id = a.request_id where r.id = p_request
    returning *
$$;

-- Say yes: the first gets the patient. The yes becomes a slot for this request alone, and a hold on it for the regulator.
-- outcome: 'accepted' | 'already' | 'too_late' | 'slot_full' (a patient at that hour already, or too late for this one) |
-- 'limit_reached' | 'conflict' (refused before) | 'not_found'.
create function accept_question(p_now timestamptz, p_question uuid, p_starts timestamptz, p_mode text, p_booking uuid,
    p_hold_until timestamptz, p_decision text, out outcome text, out document json, out published outbox[])
language plpgsql as $$
declare r request; q question; o overflow; place bigint; due bigint[]; put record;
begin
    select k.* from request k where k.id = (select request_id from question where id = p_question) into r for update;
    if not found then outcome := 'not_found'; return; end if;
    -- read under the request's lock: what the one who was quicker has changed is seen
    select * from question where id = p_question into q;
    select * from overflow where id = q.overflow_id into o;
    if q.state = 'accepted' then outcome := 'already';
    elsif q.state = 'refused' then outcome := 'conflict';
    elsif q.state <> 'asked' or r.status <> 'waiting' or r.deadline <= p_now then
        outcome := 'too_late';
        update question set said = 'yes', answered_at = p_now where id = q.id and said is null;
    else
        begin
            select * from upsert_slots(p_now, o.source, json_build_array(json_build_object(
                'external_id', 'en-sus-' || q.id, 'territory', o.territory, 'professional', o.professional,
                'professional_name', o.professional_name, 'structure', o.structure, 'structure_name', o.structure_name,
                'source_kind', o.source_kind, 'lat', o.lat, 'lon', o.lon, 'landmass', o.landmass, 'insee', o.insee,
                'label', o.label, 'phone', o.phone, 'starts', p_starts,
                'ends', p_starts + make_interval(mins => o.minutes), 'capacity', 1, 'mode', p_mode,
                'booking_kind', 'routine', 'profession', o.profession, 'specialty', o.specialty, 'offers', o.offers,
                'visibility', 'snp', 'valid_at', p_now))) into put;
            place := (put.verdicts -> 0 ->> 'slot_id')::bigint;
            due := due_under_limits(p_now, array[place]);
            perform lock_places(array[place] || due);
            -- the consent to be asked lets it leave, whatever the rules say of other places
            update slot set for_request = r.id, shut = false, platform = false, own_until = null, rule = 'en_sus:' || o.name
            where id = place;
            published := put.published || (select array_agg(k) from lapse_holds(p_now, array[place] || due, 100) k);
            if cardinality(take_seats(p_now, array[r.id], array[place], array[p_booking], array[p_hold_until],
                    array['hold'], '{}')) = 0 then
                if exists (select from limits_over(array[place]) l
                           where (l.closes or (l.counts = 'children' and is_child(r)))
                             and limit_left(l.limit_id, l.starts) = 0) then
                    raise exception 'limit_reached' using errcode = 'SAS04';
                end if;
                raise exception 'slot_full' using errcode = 'SAS02';
            end if;
            update request set status = 'held', version = version + 1, booking_id = p_booking,
                decision = jsonb_set(p_decision::jsonb, '{place,slot_id}', to_jsonb(place))::json,
                mt_said = case when mt_said = 'asked' and mt = o.professional then 'accepted' else mt_said end,
                mt_until = case when mt_said = 'asked' and mt = o.professional then null else mt_until end
            where id = r.id;
            update question set state = 'accepted', said = 'yes', answered_at = p_now, booking_id = p_booking,
                version = version + 1 where id = q.id;
            published := published
                || (select array_agg(k) from announce_requests(p_now, array[r.id], null) k)
                || (select array_agg(k) from announce_states(p_now, array[place]) k)
                || (select array_agg(k) from announce_questions(p_now, array[q.id]) k)
                || coalesce((select array_agg(k) from close_questions(p_now, r.id, 'other_accepted') k), '{}');
            if r.mt_until > p_now then
                -- the matcher still keeps it for the answer of the médecin traitant
                published := published || (select array_agg(k) from tell_matcher(p_now, r.id, 'closed') k);
            end if;
            outcome := 'accepted';
        exception
            when sqlstate 'SAS02' then outcome := 'slot_full'; published := '{}';
            when sqlstate 'SAS04' then outcome := 'limit_reached'; published := '{}';
        end;
    end if;
    select question_json(k) from question k where k.id = p_question into document;
end $$;

-- Close what is still open of a request's questions, and tell who was asked.
create function close_questions(p_now timestamptz, p_request uuid, p_reason text) returns setof outbox language plpgsql as $$
declare closed uuid[];
begin
    with done as (
        update question set state = 'closed', reason = p_reason, answered_at = p_now, version = version + 1,
            -- nobody is blamed for what others were quicker at
            answer_by = case when answer_by > p_now then 'infinity' else answer_by end
        where request_id = p_request and state = 'asked' returning id
    ) select array_agg(id) from done into closed;
    return query select * from announce_questions(p_now, closed);
end $$;

-- Say no. When nobody is left to answer, the next step is due at once.
-- outcome: 'refused' | 'already' | 'too_late' | 'conflict' (accepted: refuse the booking) | 'not_found'.
create function refuse_question(p_now timestamptz, p_question uuid, p_reason text,
    out outcome text, out document json, out published outbox[]) language plpgsql as $$
declare q question;
begin
    perform from request where id = (select request_id from question where id = p_question) for update;
    select * from question where id = p_question into q;
    if q.id is null then outcome := 'not_found'; return; end if;
    if q.state = 'refused' then outcome := 'already';
    elsif q.state in ('accepted', 'released') then outcome := 'conflict';
    elsif q.state = 'closed' then
        outcome := 'too_late';
        update question set said = 'no' where id = q.id and said is null;
    else
        update question set state = 'refused', said = 'no', reason = p_reason, answered_at = p_now, version = version + 1
        where id = q.id;
        update asking set next_at = p_now, version = version + 1 where request_id = q.request_id and next_at > p_now
            and not exists (select from question k where k.request_id = q.request_id and k.state = 'asked');
        outcome := 'refused';
        published := (select array_agg(o) from announce_questions(p_now, array[q.id]) o);
        -- the médecin traitant, before anybody else: others are looked for at once
        update request set mt_said = 'refused', mt_until = p_now, version = version + 1
        where id = q.request_id and status = 'waiting' and mt_said = 'asked' and mt_until > p_now
            and mt = (select professional from overflow where id = q.overflow_id);
        if found then
            published := published || (select array_agg(o) from tell_matcher(p_now, q.request_id, 'open') o);
        end if;
    end if;
    select question_json(k) from question k where k.id = p_question into document;
end $$;

-- Close the questions of requests that wait no more, and let go of those who said yes where the place was not taken in the
-- end: its slot was for that patient alone. Returns outbox rows.
create function settle_questions(p_now timestamptz, p_limit int) returns setof outbox language plpgsql as $$
declare over record; gone bigint[]; let_go uuid[];
begin
    for over in
        select r.id, r.status from request r
        where r.status <> 'waiting' and r.id in (select request_id from question where state = 'asked')
        order by r.id limit p_limit for update skip locked
    loop
        return query select * from close_questions(p_now, over.id, case when over.status in ('cancelled', 'unserved')
            then over.status else 'other_place' end);
    end loop;
    with ended as (
        -- the slot that the yes made, wherever the practice has moved the patient since
        select q.id, s.id as slot_id from question q join booking b on b.id = q.booking_id
        join overflow o on o.id = q.overflow_id join slot s on s.source = o.source and s.external_id = 'en-sus-' || q.id
        -- a request lives for 48 hours at the most: what is older has been received, or was let go
        where q.state = 'accepted' and q.asked_at > p_now - interval '3 days' and b.ended_at is not null
        order by q.id limit p_limit for update of q skip locked
    ), done as (
        update question q set state = 'released', reason = 'not_taken', version = version + 1
        from ended e where q.id = e.id returning q.id, e.slot_id
    ) select array_agg(id), array_agg(slot_id) from done into let_go, gone;
    if let_go is null then return; end if;
    perform lock_places(gone);
    update slot set status = 'withdrawn', changed_at = p_now, valid_at = greatest(valid_at, p_now),
        version = nextval('change_seq') where id = any(gone) and status = 'open';
    return query select * from announce_gone(p_now, gone);
    return query select * from announce_questions(p_now, let_go);
end $$;

create function ladder_json(l ladder) returns json language sql immutable as $$
    select json_build_object('territory', l.territory, 'steps', l.steps, 'version', l.version, 'changed_at', l.changed_at)
$$;

-- Change a territory's ladder, with a trace, as ``change_setting`` does.
-- outcome: 'changed' | 'unchanged' | 'conflict' (another version).
create function change_ladder(p_now timestamptz, p_territory text, p_key_id text, p_steps jsonb, p_why text, p_version int,
    out outcome text, out document text, out published outbox[]) language plpgsql as $$
declare before ladder; after ladder; change ladder_log;
begin
    insert into ladder (territory) values (p_territory) on conflict do nothing;
    select * from ladder where territory = p_territory into before for update;
    document := ladder_json(before);
    if p_version <> before.version then outcome := 'conflict'; return; end if;
    if p_steps = before.steps then outcome := 'unchanged'; return; end if;
    update ladder set steps = p_steps, version = version + 1, changed_at = p_now where territory = p_territory
    returning * into after;
    insert into ladder_log (territory, version, at, key_id, before, after, why)
    values (p_territory, after.version, p_now, p_key_id, ladder_json(before), ladder_json(after), p_why)
    returning * into change;
    with announced as (
        insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
        values (p_now, p_territory, 'events', 'ladder.changed', 'ladder:' || p_territory, after.version, p_key_id,
            array['t:' || p_territory, 't:*'], row_to_json(change)::text)
        returning *
    ) select array_agg(a::outbox) from announced a into published;
    outcome := 'changed';
    document := ladder_json(after);
end $$;
