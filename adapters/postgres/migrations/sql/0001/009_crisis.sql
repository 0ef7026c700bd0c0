-- Crisis: who declared which level for which scope, what it changed, plans, proposals, calls for extra capacity. What was
-- done and why is append-only. A drill has rows of its own beside the real ones: it never touches what is real.

-- The level of a scope ('69', 'region:Bretagne', 'nation'); no row: normal.
create table crisis_scope (
    scope      text not null,
    drill      boolean not null,
    level      text not null check (level in ('normal', 'tension', 'crise')),
    version    int not null,
    changed_at timestamptz not null,
    key_id     text not null references api_key (id),
    why        text not null check (why <> ''),
    primary key (scope, drill)
);

-- Where a territory stands: the highest level of its scopes; what levels have set of its settings, and what these were
-- before (domain/crisis.py, `shift`). Of a drill both stay empty.
create table crisis_territory (
    territory text not null,
    drill     boolean not null,
    level     text not null check (level in ('normal', 'tension', 'crise')),
    since     timestamptz not null,
    applied   jsonb not null default '{}',
    before    jsonb not null default '{}',
    version   int not null,
    primary key (territory, drill),
    check (not drill or (applied = '{}' and before = '{}'))
);

create table crisis_log (
    id          bigint generated always as identity primary key,
    scope       text not null,
    drill       boolean not null,
    version     int not null,
    at          timestamptz not null,
    key_id      text not null references api_key (id),
    role        text not null,
    was         text not null,
    level       text not null,
    why         text not null check (why <> ''),
    -- the proposal that was accepted
    proposal    uuid,
    -- [{territory, was, level, changes, kept}]
    territories jsonb not null,
    unique (scope, drill, version)
);

create table crisis_plan (
    territory  text primary key,
    plan       jsonb not null,
    version    int not null,
    changed_at timestamptz not null
);
create table crisis_plan_log (
    territory text not null references crisis_plan (territory),
    version   int not null,
    at        timestamptz not null,
    key_id    text not null references api_key (id),
    plan      jsonb not null,
    why       text not null check (why <> ''),
    primary key (territory, version)
);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'what was done is not rewritten' using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete or truncate on crisis_log execute function refuse_change();
create trigger append_only before update or delete or truncate on crisis_plan_log execute function refuse_change();

create table crisis_proposal (
    id          uuid primary key,
    -- a territory, a région or the nation, and the territories of it
    scope       text not null,
    territories text[] not null,
    was         text not null,
    level       text not null,
    at          timestamptz not null,
    figures     jsonb not null,
    reasons     text[] not null,
    state       text not null default 'open' check (state in ('open', 'accepted', 'refused', 'superseded')),
    answered_at timestamptz,
    key_id      text references api_key (id),
    why         text,
    version     int not null default 1,
    check ((state in ('accepted', 'refused')) = (key_id is not null))
);
create unique index crisis_proposal_open on crisis_proposal (scope) where state = 'open';
create index crisis_proposal_of_territories on crisis_proposal using gin (territories);

-- A call for extra capacity, and to whom it went: who has consented to be called (`overflow.crisis_calls`).
create table crisis_call (
    id        uuid primary key,
    territory text not null,
    drill     boolean not null,
    level     text not null,
    at        timestamptz not null,
    until     timestamptz not null,
    text      text not null,
    key_id    text not null references api_key (id)
);
create index crisis_call_of_territory on crisis_call (territory, at desc);
create table crisis_call_to (
    call_id     uuid not null references crisis_call (id),
    overflow_id bigint not null references overflow (id),
    state       text not null default 'called' check (state in ('called', 'yes', 'no')),
    places      int check (places between 1 and 200),
    answered_at timestamptz,
    version     int not null default 1,
    primary key (call_id, overflow_id),
    check ((state = 'yes') = (places is not null))
);
create index crisis_call_to_overflow on crisis_call_to (overflow_id);

-- Whether this ledger is that of an exercise; said once, at its first start.
create table ledger_kind (
    one   boolean primary key default true check (one),
    drill boolean not null
);

create function crisis_log_json(l crisis_log) returns json language sql immutable as $$
    select json_build_object(
        'id', l.id, 'scope', l.scope, 'drill', l.drill, 'version', l.version, 'at', l.at, 'key_id', l.key_id,
        'role', l.role, 'was', l.was, 'level', l.level, 'why', l.why, 'proposal', l.proposal,
        'territories', l.territories)
$$;

create function crisis_plan_json(p crisis_plan) returns json language sql immutable as $$
    select json_build_object('territory', p.territory, 'plan', p.plan, 'version', p.version, 'changed_at', p.changed_at)
$$;

create function crisis_proposal_json(p crisis_proposal) returns json language sql immutable as $$
    select json_build_object(
        'proposal_id', p.id, 'scope', p.scope, 'territories', p.territories, 'was', p.was, 'level', p.level, 'at', p.at, 'drill', false,
        'figures', p.figures, 'reasons', p.reasons, 'state', p.state, 'answered_at', p.answered_at, 'key_id', p.key_id,
        'why', p.why, 'version', p.version)
$$;

-- As the practice sees it that is called.
create function crisis_call_json(c crisis_call, t crisis_call_to) returns json language sql stable as $$
    select json_build_object(
        'call_id', c.id, 'territory', c.territory, 'drill', c.drill, 'level', c.level, 'at', c.at, 'until', c.until,
        'text', c.text, 'overflow', o.name, 'professional', o.professional, 'structure', o.structure,
        'state', t.state, 'places', t.places, 'answered_at', t.answered_at, 'version', t.version)
    from overflow o where o.id = t.overflow_id
$$;

-- One event for all keys of a territory, or for whom p_audience names.
create function tell_crisis(p_now timestamptz, p_territory text, p_type text, p_aggregate text, p_version int, p_owner text,
    p_audience text[], p_data text) returns setof outbox language sql as $$
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    values (p_now, p_territory, 'events', p_type, p_aggregate, p_version, p_owner,
            coalesce(p_audience, array['t:' || p_territory, 't:*']), p_data)
    returning *
$$;

-- Set a territory's plan. outcome: 'changed' | 'unchanged' | 'conflict' (another version).
create function change_crisis_plan(p_now timestamptz, p_territory text, p_key_id text, p_plan jsonb, p_why text,
    p_version int, out outcome text, out document text, out published outbox[]) language plpgsql as $$
declare known crisis_plan;
begin
    perform pg_advisory_xact_lock(hashtext('crisis_plan ' || p_territory));
    select * from crisis_plan where territory = p_territory into known;
    if p_version <> coalesce(known.version, 0) then
        outcome := 'conflict';
        document := json_build_object('version', coalesce(known.version, 0));
        return;
    end if;
    outcome := case when known.plan = p_plan then 'unchanged' else 'changed' end;
    if outcome = 'changed' or known.version is null then
        insert into crisis_plan (territory, plan, version, changed_at) values (p_territory, p_plan, 1, p_now)
        on conflict (territory) do update set plan = excluded.plan, version = crisis_plan.version + 1,
            changed_at = excluded.changed_at
        returning * into known;
        insert into crisis_plan_log (territory, version, at, key_id, plan, why)
        values (p_territory, known.version, p_now, p_key_id, p_plan, p_why);
        published := array(select e from tell_crisis(p_now, p_territory, 'crisis.plan_changed', 'crisis_plan:' || p_territory,
            known.version, p_key_id, null, json_build_object('territory', p_territory, 'version', known.version,
            'key_id', p_key_id, 'why', p_why)::text) e);
    end if;
    document := crisis_plan_json(known);
end $$;

-- What became of a proposal, for all keys of the territories of its scope.
create function tell_proposal(p_now timestamptz, p crisis_proposal, p_type text, p_owner text) returns setof outbox
language sql as $$
    select * from tell_crisis(p_now, case when cardinality(p.territories) = 1 then p.scope else '' end, p_type, p.id::text,
        p.version, p_owner, array(select 't:' || t from unnest(p.territories) t) || array['t:*'],
        crisis_proposal_json(p)::text)
$$;

-- Propose a level for a territory, a région or the nation; one that is open for another level gives way.
-- outcome: 'proposed' | 'open' (the same is open already) | 'quiet' (it was refused since p_quiet).
create function propose_level(p_now timestamptz, p_id uuid, p_scope text, p_territories text[], p_was text, p_level text,
    p_figures jsonb, p_reasons text[], p_quiet timestamptz, out outcome text, out published outbox[]) language plpgsql as $$
declare known crisis_proposal;
begin
    perform pg_advisory_xact_lock(hashtext('crisis_proposal ' || p_scope));
    if exists (select from crisis_proposal where scope = p_scope and state = 'open' and level = p_level) then
        outcome := 'open';
        return;
    end if;
    if exists (select from crisis_proposal where scope = p_scope and state = 'refused' and level = p_level
               and answered_at > p_quiet) then
        outcome := 'quiet';
        return;
    end if;
    update crisis_proposal set state = 'superseded', answered_at = p_now, version = version + 1
    where scope = p_scope and state = 'open';
    insert into crisis_proposal (id, scope, territories, was, level, at, figures, reasons)
    values (p_id, p_scope, p_territories, p_was, p_level, p_now, p_figures, p_reasons) returning * into known;
    outcome := 'proposed';
    published := array(select e from tell_proposal(p_now, known, 'crisis.proposed', '') e);
end $$;

-- Answer a proposal: 'accepted' (its level is declared in the same transaction) or 'refused'.
-- outcome: the state, or 'not_open' | 'not_found'.
create function answer_proposal(p_now timestamptz, p_id uuid, p_key_id text, p_state text, p_why text,
    out outcome text, out document text, out published outbox[]) language plpgsql as $$
declare known crisis_proposal;
begin
    select * from crisis_proposal where id = p_id into known for update;
    if known.id is null then outcome := 'not_found'; return; end if;
    if known.state <> 'open' then
        outcome := 'not_open';
        document := crisis_proposal_json(known);
        return;
    end if;
    update crisis_proposal set state = p_state, answered_at = p_now, key_id = p_key_id, why = p_why, version = version + 1
    where id = p_id returning * into known;
    outcome := p_state;
    document := crisis_proposal_json(known);
    published := array(select e from tell_proposal(p_now, known, 'crisis.proposal_' || p_state, p_key_id) e);
end $$;

-- How high a level is.
create function level_rank(p_level text) returns int language sql immutable as $$
    select array_position(array['normal', 'tension', 'crise'], p_level)
$$;

-- A level that was declared otherwise answers the proposal that was open.
-- So it does those within the scope that ask for no more (p_level; p_territories: of the scope).
create function supersede_proposals(p_now timestamptz, p_scope text, p_territories text[], p_level text)
returns setof outbox language plpgsql as $$
declare known crisis_proposal;
begin
    for known in update crisis_proposal set state = 'superseded', answered_at = p_now, version = version + 1
                 where state = 'open' and (scope = p_scope or cardinality(territories) > 1 and territories <@ p_territories
                     and level_rank(level) <= level_rank(p_level)) returning * loop
        return query select * from tell_proposal(p_now, known, 'crisis.proposal_superseded', '');
    end loop;
end $$;

-- Call for extra capacity: everybody in the territory who has consented to such calls. In a drill the same people hear it,
-- marked as one.
create function call_practices(p_now timestamptz, p_id uuid, p_territory text, p_drill boolean, p_level text,
    p_until timestamptz, p_text text, p_key_id text, out outcome text, out document text, out published outbox[])
language plpgsql as $$
declare c crisis_call; number int;
begin
    insert into crisis_call (id, territory, drill, level, at, until, text, key_id)
    values (p_id, p_territory, p_drill, p_level, p_now, p_until, p_text, p_key_id) returning * into c;
    insert into crisis_call_to (call_id, overflow_id)
    select c.id, o.id from overflow o
    where o.territory = p_territory and o.removed_at is null and o.crisis_calls order by o.id;
    get diagnostics number = row_count;
    published := array(
        select e from crisis_call_to t join overflow o on o.id = t.overflow_id,
        lateral tell_crisis(p_now, p_territory, 'crisis.called', c.id || ':' || o.id, 1, '',
            array_remove(array['src:' || o.source, 'p:' || o.professional, 's:' || o.structure], null),
            crisis_call_json(c, t)::text) e
        where t.call_id = c.id order by o.id);
    outcome := 'called';
    document := json_build_object('call_id', c.id, 'territory', c.territory, 'drill', c.drill, 'level', c.level,
        'at', c.at, 'until', c.until, 'text', c.text, 'called', number);
end $$;

-- Answer a call: how many places are opened in addition, or none. outcome: 'yes' | 'no' | 'too_late' | 'not_found'.
create function answer_call(p_now timestamptz, p_call uuid, p_overflows bigint[], p_places int,
    out outcome text, out document text, out published outbox[]) language plpgsql as $$
declare c crisis_call; t crisis_call_to;
begin
    select * from crisis_call where id = p_call into c;
    select * from crisis_call_to where call_id = p_call and overflow_id = any(p_overflows)
    order by overflow_id limit 1 into t for update;
    if t.call_id is null then outcome := 'not_found'; return; end if;
    if c.until <= p_now then outcome := 'too_late'; document := crisis_call_json(c, t); return; end if;
    update crisis_call_to set state = case when p_places is null then 'no' else 'yes' end, places = p_places,
        answered_at = p_now, version = version + 1
    where call_id = t.call_id and overflow_id = t.overflow_id returning * into t;
    outcome := t.state;
    document := crisis_call_json(c, t);
    published := array(select e from tell_crisis(p_now, c.territory, 'crisis.answered', c.id || ':' || t.overflow_id,
        t.version, '', null, document) e);
end $$;
