-- Who of the practices wants to be told of what, and how (websocket, e-mail, signed webhook); what is to be told waits here,
-- queued in the transaction of the change, in order for each booking. What is told names ids and times, and nobody.

create table subscription (
    id             bigint generated always as identity primary key,
    source         text not null,
    name           text not null,
    -- who set it; it is told nothing once that key is revoked or over
    key_id         text not null references api_key (id),
    way            text not null check (way in ('websocket', 'email', 'webhook')),
    address        text,
    kinds          text[] not null check (kinds <> '{}'),
    -- reminders in 24 hours at the most, and when to look again for outcomes that are still to be told
    most_reminders int not null check (most_reminders between 0 and 20),
    remind_at      timestamptz not null default 'epoch',
    -- what signs a webhook; the one before signs as well until old_until
    secret         bytea,
    old_secret     bytea,
    old_until      timestamptz,
    -- unconfirmed: whoever reads mail at this address has not yet said that it is theirs
    state          text not null default 'active' check (state in ('active', 'disabled', 'unconfirmed')),
    -- what they answer with, and how often it may still be tried
    code           text,
    code_tries     int not null default 0,
    sent_at        timestamptz,
    failing_since  timestamptz,
    last_error     text,
    changed_at     timestamptz not null,
    version        int not null default 1,
    constraint subscription_of_source unique (source, name),
    check ((way = 'webhook') = (secret is not null)),
    check ((way = 'websocket') = (address is null)),
    check (state <> 'unconfirmed' or (way = 'email' and code is not null))
);
create index subscription_to_remind on subscription (remind_at) where state = 'active';

-- About whom: 'p:' professional, 's:' structure, 'src:' all that a publisher for anybody has published.
create table subscription_member (
    member          text not null,
    subscription_id bigint not null references subscription (id) on delete cascade,
    primary key (member, subscription_id)
);
create index member_of_subscription on subscription_member (subscription_id);

create table notice (
    id              bigint generated always as identity primary key,
    subscription_id bigint not null references subscription (id) on delete cascade,
    -- what it tells: never twice to the same
    once            text not null,
    -- the booking, question or place: what is told of one comes in order
    about           text not null,
    kind            text not null,
    at              timestamptz not null,
    territory       text not null,
    body            json not null,
    state           text not null default 'waiting' check (state in ('waiting', 'sent', 'refused')),
    tries           int not null default 0,
    next_at         timestamptz not null default 'epoch',
    -- whoever sends it now has it until then; tries is the fence of a sender that was paused
    claimed_until   timestamptz,
    settled_at      timestamptz,
    last_error      text,
    constraint notice_once unique (subscription_id, once)
);
create index notice_due on notice (next_at, id) where state = 'waiting';
create index notice_waiting on notice (subscription_id, about, id) where state = 'waiting';
create index notice_newest on notice (subscription_id, id desc);
create index notice_refused on notice (id) where state = 'refused';
create index notice_settled on notice (settled_at) where state <> 'waiting';

-- Codes that were mailed within the hour, by whom and to whom: apart from notices, which go with their subscription. Of the
-- address only a hash: whoever removes a subscription takes the address along.
create table code_mail (
    at      timestamptz not null,
    source  text not null,
    address bytea not null
);

create function subscription_json(s subscription) returns json language sql stable as $$
    select json_build_object(
        'name', s.name, 'way', s.way, 'address', s.address, 'kinds', s.kinds, 'most_reminders', s.most_reminders,
        'professionals', array(select substr(member, 3) from subscription_member m where m.subscription_id = s.id and member like 'p:%' order by 1),
        'structures', array(select substr(member, 3) from subscription_member m where m.subscription_id = s.id and member like 's:%' order by 1),
        'everybody', exists (select from subscription_member m where m.subscription_id = s.id and member like 'src:%'),
        'state', s.state, 'sent_at', s.sent_at, 'failing_since', s.failing_since, 'last_error', s.last_error,
        'old_secret_until', s.old_until, 'changed_at', s.changed_at, 'version', s.version,
        'waiting', (select count(*) from notice n where n.subscription_id = s.id and n.state = 'waiting'))
$$;

-- Set or change a subscription; one that was disabled begins anew. p_secret is taken where a webhook has none yet:
-- fresh says so, and it is shown this once. A new address of mail is first sent p_code, and told the rest once it came back.
-- Of codes a source sends p_most a minute at the most, and an address gets p_most_to an hour, whoever asks: over that
-- nothing is done, and wait says for how long.
create function put_subscription(p_now timestamptz, p_source text, p_name text, p_key_id text, p_way text, p_address text,
    p_kinds text[], p_most_reminders int, p_members text[], p_secret bytea, p_code text, p_most int, p_most_to int,
    out document text, out fresh boolean, out wait interval)
language plpgsql as $$
declare s subscription; hashed bytea := sha256(convert_to(lower(p_address), 'UTF8'));
begin
    begin
        insert into subscription as k (source, name, key_id, way, address, kinds, most_reminders, secret, changed_at, state, code)
        values (p_source, p_name, p_key_id, p_way, p_address, p_kinds, p_most_reminders,
            case when p_way = 'webhook' then p_secret end, p_now, case when p_way = 'email' then 'unconfirmed' else 'active' end,
            case when p_way = 'email' then p_code end)
        on conflict on constraint subscription_of_source do update set
            key_id = excluded.key_id, way = excluded.way, address = excluded.address, kinds = excluded.kinds,
            most_reminders = excluded.most_reminders,
            secret = case when excluded.way = 'webhook' then coalesce(k.secret, excluded.secret) end,
            old_secret = case when excluded.way = 'webhook' then k.old_secret end,
            old_until = case when excluded.way = 'webhook' then k.old_until end,
            -- an address that was confirmed stays so
            state = case when excluded.way = 'email' and k.way = 'email' and k.address = excluded.address
                             and k.state <> 'unconfirmed' then 'active' else excluded.state end,
            code = excluded.code, code_tries = 0,
            failing_since = null, last_error = null, changed_at = excluded.changed_at, version = k.version + 1
        returning * into s;
        if s.state = 'unconfirmed' then
            -- two at once count one another
            lock table code_mail in share row exclusive mode;
            delete from code_mail where at <= p_now - interval '1 hour';
            wait := greatest(
                (select at + interval '1 minute' - p_now from code_mail where source = p_source
                 order by at desc offset p_most - 1 limit 1),
                (select at + interval '1 hour' - p_now from code_mail where address = hashed
                 order by at desc offset p_most_to - 1 limit 1));
            if wait > interval '0' then raise exception 'too_many_codes' using errcode = 'SAS06'; end if;
            insert into code_mail values (p_now, p_source, hashed);
            -- what was for another address is not for this one
            delete from notice where subscription_id = s.id and state = 'waiting';
            insert into notice (subscription_id, once, about, kind, at, territory, body)
            values (s.id, 'confirm:' || s.version, 'confirm', 'confirm', p_now, '', json_build_object('code', s.code));
        end if;
        delete from subscription_member where subscription_id = s.id;
        insert into subscription_member select distinct m, s.id from unnest(p_members) m;
        -- what waits is tried at the new address at once
        update notice set next_at = 'epoch' where subscription_id = s.id and state = 'waiting';
        fresh := p_way = 'webhook' and s.secret = p_secret;
        document := subscription_json(s);
        wait := null;
    exception when sqlstate 'SAS06' then
        document := null;
    end;
end $$;

-- Whoever reads mail at an address says that it is theirs. outcome: 'confirmed' | 'already' | 'wrong_code' | 'no_more_tries' |
-- 'not_found'.
create function confirm_subscription(p_now timestamptz, p_source text, p_name text, p_code text,
    out outcome text, out document text) language plpgsql as $$
declare s subscription;
begin
    select * from subscription where source = p_source and name = p_name into s for update;
    if not found then outcome := 'not_found'; return; end if;
    if s.state <> 'unconfirmed' then outcome := 'already';
    elsif s.code_tries >= 5 then outcome := 'no_more_tries';
    elsif s.code = p_code then
        outcome := 'confirmed';
        update subscription set state = 'active', version = version + 1, changed_at = p_now where id = s.id returning * into s;
    else
        outcome := 'wrong_code';
        update subscription set code_tries = code_tries + 1 where id = s.id;
    end if;
    document := subscription_json(s);
end $$;

-- What practices call the news that the outbox tells them; null: not a matter for a notice.
create function notice_kind(p_type text, p_data json) returns text language sql immutable as $$
    select case p_type
        when 'booking.firm' then case when json_typeof(p_data -> 'acceptance') = 'object'
                and p_data -> 'acceptance' ->> 'accepted_at' is null then 'booking.to_accept' else 'booking.made' end
        when 'booking.accepted' then 'booking.accepted'
        when 'booking.moved' then 'booking.moved'
        when 'booking.cancelled' then 'booking.cancelled'
        when 'booking.refused' then 'booking.refused'
        when 'booking.withdrawn' then 'booking.refused'
        when 'question.asked' then 'question.asked'
        when 'question.closed' then 'question.closed'
        when 'question.released' then 'question.released'
        when 'crisis.called' then case when (p_data ->> 'drill')::boolean then 'crisis.drill' else 'crisis.called' end
        when 'places.handed_back' then 'places.handed_back' end
$$;

-- The only words about it that leave: which, when, until when, how many.
create function notice_body(p_data json) returns json language sql immutable as $$
    select json_strip_nulls(json_build_object(
        'booking_id', p_data -> 'booking_id', 'question_id', p_data -> 'question_id',
        'slot_id', case when p_data -> 'seats' is not null then p_data -> 'slot_id' end, 'seats', p_data -> 'seats',
        'call_id', p_data -> 'call_id', 'drill', case when p_data -> 'call_id' is not null then p_data -> 'drill' end,
        'start', p_data -> 'start', 'until', coalesce(p_data -> 'acceptance' -> 'until', p_data -> 'answer_by',
            case when p_data -> 'call_id' is not null then p_data -> 'until' end)))
$$;

create function queue_notices() returns trigger language plpgsql as $$
declare named text; told json;
begin
    -- most practices have none
    if not exists (select from subscription_member where member = any(new.audience)) then return null; end if;
    told := new.data;
    named := notice_kind(new.type, told);
    if named is null then return null; end if;
    insert into notice (subscription_id, once, about, kind, at, territory, body)
    select distinct s.id, new.type || ':' || new.aggregate || ':' || new.version, new.aggregate, named, new.at, new.territory,
        notice_body(told)::jsonb
    from subscription_member m join subscription s on s.id = m.subscription_id join api_key k on k.id = s.key_id
    -- a websocket has heard it already
    where m.member = any(new.audience) and s.state = 'active' and s.way <> 'websocket'
      and (named = any(s.kinds) or (named = 'booking.to_accept' and 'booking.made' = any(s.kinds))
           or (named = 'crisis.drill' and 'crisis.called' = any(s.kinds)))
      and k.revoked_at is null and (k.expires_at is null or k.expires_at > new.at)
    on conflict do nothing;
    return null;
end $$;

-- In the transaction that announces it to the practice; the condition costs nothing to all other news.
create trigger outbox_notices after insert on outbox for each row
    when (new.stream = 'events' and new.audience <> '{}') execute function queue_notices();

-- Take notices that are due, and nobody's: of each matter the oldest; of a subscription where nothing arrives only the
-- oldest of all; of all subscriptions of one source four at a time, so that a server that takes its time holds up nobody
-- else. They are the caller's until p_until.
create function claim_notices(p_now timestamptz, p_until timestamptz, p_limit int) returns setof notice language sql as $$
    update notice n set claimed_until = p_until, tries = n.tries + 1
    from (
        select d.id from notice d join (
            select w.id, row_number() over (partition by s.source order by w.next_at, w.id) + (
                    select count(*) from subscription t join notice h on h.subscription_id = t.id
                    where t.source = s.source and h.state = 'waiting' and h.claimed_until > p_now) as place
            from notice w join subscription s on s.id = w.subscription_id
                join api_key k on k.id = s.key_id and k.revoked_at is null and (k.expires_at is null or k.expires_at > p_now)
            where w.state = 'waiting' and w.next_at <= p_now and (w.claimed_until is null or w.claimed_until <= p_now)
              and not exists (select from notice e
                              where e.subscription_id = w.subscription_id and e.id < w.id and e.state = 'waiting'
                                and (e.about = w.about or s.failing_since is not null))
        ) one on one.id = d.id and one.place <= 4
        -- another sender may have taken it since
        where d.state = 'waiting' and (d.claimed_until is null or d.claimed_until <= p_now)
        order by d.next_at, d.id limit p_limit for update of d skip locked) due
    where n.id = due.id
    returning n.*
$$;

-- Write what came of a notice; nothing when another sender has it now. p_state waiting or refused: it did not arrive. After
-- p_patience without anything that did, or where p_gone says that the address is no more, the subscription is disabled:
-- what waits for it is refused, and its practice is told (event).
create function settle_notice(p_now timestamptz, p_id bigint, p_tries int, p_state text, p_next_at timestamptz, p_error text,
    p_gone boolean, p_patience interval, out settled boolean, out published outbox[])
language plpgsql as $$
declare n notice; s subscription;
begin
    update notice set state = p_state, next_at = coalesce(p_next_at, next_at), claimed_until = null, last_error = p_error,
        settled_at = case when p_state <> 'waiting' then p_now end
    where id = p_id and tries = p_tries and state = 'waiting' returning * into n;
    settled := found;
    if not found then return; end if;
    if p_state = 'sent' then
        update subscription set sent_at = p_now, failing_since = null, last_error = null where id = n.subscription_id;
        return;
    end if;
    update subscription set failing_since = coalesce(failing_since, p_now), last_error = p_error
    where id = n.subscription_id returning * into s;
    if s.state = 'active' and (p_gone or s.failing_since <= p_now - p_patience) then
        update subscription set state = 'disabled', version = version + 1, changed_at = p_now where id = s.id returning * into s;
        update notice set state = 'refused', settled_at = p_now, last_error = 'disabled'
        where subscription_id = s.id and state = 'waiting';
        with told as (
            insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
            select p_now, n.territory, 'events', 'subscription.disabled', 'subscription:' || s.id, s.version, '',
                array(select member from subscription_member where subscription_id = s.id), subscription_json(s)::text
            returning *
        ) select array_agg(t::outbox) from told t into published;
    end if;
end $$;

-- Whether a subscription may be reminded once more: so many in 24 hours at the most.
create function may_remind(s subscription, p_now timestamptz) returns boolean language sql stable as $$
    select count(*) < s.most_reminders from notice n
    where n.subscription_id = s.id and n.kind like 'reminder.%' and n.at > p_now - interval '24 hours'
$$;

-- Remind gently, who asked for it: of acceptances in the last third of their time, once each; of patients whose outcome is
-- still to be told two hours after their time, once a day for all of them, for three days. Returns how many.
create function remind(p_now timestamptz, p_limit int) returns int language plpgsql as $$
declare r record; s subscription; reminded int := 0; open_ones int; first_one timestamptz;
begin
    for r in select b.id, b.accept_until, b.territory, t as subscribed, sl.starts
             from booking b join slot sl on sl.id = b.slot_id
             join subscription_member m on m.member = any(slot_audience(sl))
             join subscription t on t.id = m.subscription_id
             where b.state = 'firm' and b.acceptance = 'explicit' and b.accepted_at is null
               -- a third of the longest time to accept
               and b.accept_until > p_now and b.accept_until <= p_now + interval '8 hours'
               and b.accept_until - (b.accept_until - b.firm_at) / 3 <= p_now
               and t.state = 'active' and 'reminder.accept' = any(t.kinds)
               and not exists (select from notice n where n.subscription_id = t.id and n.once = 'reminder.accept:' || b.id)
             order by b.accept_until, b.id limit p_limit loop
        continue when not may_remind(r.subscribed, p_now);
        insert into notice (subscription_id, once, about, kind, at, territory, body)
        values ((r.subscribed).id, 'reminder.accept:' || r.id, r.id::text, 'reminder.accept', p_now, r.territory,
            json_build_object('booking_id', r.id, 'start', r.starts, 'until', r.accept_until))
        on conflict do nothing;
        if found then reminded := reminded + 1; end if;
    end loop;
    for s in select * from subscription
             where state = 'active' and 'reminder.outcome' = any(kinds) and remind_at <= p_now
             order by remind_at limit p_limit for update skip locked loop
        select count(*), min(sl.starts)
        from slots_of_members(array(select member from subscription_member where subscription_id = s.id), null,
            p_now - interval '3 days', p_now) sl
        join booking b on b.slot_id = sl.id and b.state = 'firm' and b.ended_at is null
        where sl.ends <= p_now - interval '2 hours'
        into open_ones, first_one;
        if open_ones > 0 and may_remind(s, p_now) then
            insert into notice (subscription_id, once, about, kind, at, territory, body)
            values (s.id, 'reminder.outcome:' || p_now, 'outcome', 'reminder.outcome', p_now, '',
                json_build_object('bookings', open_ones, 'start', first_one));
            reminded := reminded + 1;
            update subscription set remind_at = p_now + interval '24 hours' where id = s.id;
        else
            update subscription set remind_at = p_now + interval '15 minutes' where id = s.id;
        end if;
    end loop;
    return reminded;
end $$;
