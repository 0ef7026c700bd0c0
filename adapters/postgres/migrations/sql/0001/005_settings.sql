-- What a territory sets, changed at run time: each change leaves a trace and is announced to all keys of the territory.

create function setting_json(s territory_setting) returns json language sql immutable as $$
    select json_build_object(
        'territory', s.territory, 'hold_seconds', s.hold_seconds, 'mt_rule', s.mt_rule, 'mt_ask_min', s.mt_ask_min,
        'policy', s.policy,
        'crisis_allowed', s.crisis_allowed, 'crisis', s.crisis, 'ageing_pct_per_h', s.ageing_pct_per_h,
        'fair_load_min', s.fair_load_min, 'radius_pct', s.radius_pct, 'urgent_reserve_pct', s.urgent_reserve_pct,
        'tele_bonus_min', s.tele_bonus_min, 'borrow', s.borrow, 'borrow_km', s.borrow_km,
        'version', s.version, 'changed_at', s.changed_at)
$$;

create function setting_change_json(l territory_setting_log) returns json language sql immutable as $$
    select json_build_object(
        'territory', l.territory, 'version', l.version, 'at', l.at, 'key_id', l.key_id, 'why', l.why,
        'before', l.before, 'after', l.after)
$$;

-- Change what p_changes names (columns; of `policy`, tiers) and leave the rest. p_version, where given, is the version
-- that whoever changes has read.
-- outcome: 'changed' | 'unchanged' | 'conflict' (another version) | 'crisis_not_allowed'; document: as it stands after.
create function change_setting(
    p_now timestamptz, p_territory text, p_key_id text, p_changes jsonb, p_why text, p_version int,
    out outcome text, out document text, out published outbox[]) language plpgsql as $$
declare before territory_setting; after territory_setting; change territory_setting_log;
begin
    insert into territory_setting (territory) values (p_territory) on conflict do nothing;
    select * from territory_setting where territory = p_territory into before for update;
    document := setting_json(before);
    if p_version <> before.version then
        outcome := 'conflict';
        return;
    end if;
    after := jsonb_populate_record(before, p_changes - 'policy');
    after.policy := before.policy || coalesce(p_changes -> 'policy', '{}');
    if after = before then
        outcome := 'unchanged';
        return;
    end if;
    if not after.crisis_allowed and (after.crisis or jsonb_path_exists(after.policy, '$.* ? (@ == "crisis")')) then
        outcome := 'crisis_not_allowed';
        return;
    end if;
    after.version := before.version + 1;
    after.changed_at := p_now;
    update territory_setting set hold_seconds = after.hold_seconds, mt_rule = after.mt_rule,
        mt_ask_min = after.mt_ask_min, policy = after.policy,
        crisis_allowed = after.crisis_allowed, crisis = after.crisis, ageing_pct_per_h = after.ageing_pct_per_h,
        fair_load_min = after.fair_load_min, radius_pct = after.radius_pct,
        urgent_reserve_pct = after.urgent_reserve_pct, tele_bonus_min = after.tele_bonus_min, borrow = after.borrow,
        borrow_km = after.borrow_km,
        version = after.version, changed_at = after.changed_at
    where territory = p_territory;
    insert into territory_setting_log (territory, version, at, key_id, before, after, why)
    values (p_territory, after.version, p_now, p_key_id, setting_json(before), setting_json(after), p_why)
    returning * into change;
    with announced as (
        insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
        values (p_now, p_territory, 'events', 'settings.changed', 'settings:' || p_territory, after.version, p_key_id,
            array['t:' || p_territory, 't:*'], setting_change_json(change)::text),
            -- and to its matcher, which need not wait for its next look
            (p_now, p_territory, 'requests', 'settings', 'settings:' || p_territory, after.version, p_key_id, '{}', '{}')
        returning *
    ) select array_agg(a::outbox) from announced a into published;
    outcome := 'changed';
    document := setting_json(after);
end $$;
