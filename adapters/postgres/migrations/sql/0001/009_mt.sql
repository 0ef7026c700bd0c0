-- Médecin traitant first, where a territory sets it so: who may have a place is asked before another place is taken.

-- Tell only the matcher what became of a request.
create function tell_matcher(p_now timestamptz, p_request uuid, p_type text) returns setof outbox language sql as $$
    insert into outbox (at, territory, stream, type, aggregate, version, owner, audience, data)
    select p_now, r.territory, 'requests', p_type, r.id::text, r.version, r.key_id, '{}',
           case when p_type = 'closed' then '' else request_json(r)::text end
    from request r where r.id = p_request
    returning *
$$;

-- Say what the médecin traitant of a new request may give (request.mt_said), and ask him where that is a yes to a question:
--   'place'        he has a free place in time: it goes first, nobody is asked
--   'too_short'    the most urgent tier, or asking would take more than a tenth of what is left: nothing waits for him
--   'not_askable'  no consent of his covers this request now (hours, days, questions a day, needs, modes)
--   'asked'        a question is put; no other place is taken until mt_until
-- Returns the outbox rows of the question. Whoever counts the questions of a day comes one after the other.
create function ask_mt(p_now timestamptz, p_request uuid) returns setof outbox language plpgsql as $$
declare r request; t territory_setting; o overflow; said text; until timestamptz; put uuid; km double precision;
begin
    select * from request where id = p_request into r;
    select * from territory_setting where territory = r.territory and mt_rule = 'first' into t;
    if not found or r.mt is null then return; end if;
    if exists (select from slot s
               where s.professional = r.mt and s.status = 'open' and s.starts > p_now and s.starts <= r.deadline
                 and s.profession = r.profession and s.mode = any(r.modes) and s.offers @> r.needs and place_left(s) > 0) then
        said := 'place';
    elsif r.tier = 'T0' or r.deadline - p_now < 10 * make_interval(mins => t.mt_ask_min) then
        said := 'too_short';
    else
        select k.* from overflow k
        where k.professional = r.mt and k.removed_at is null and t.mt_ask_min > 0 and k.profession = r.profession
          and (r.specialty is null or k.specialty = r.specialty) and k.modes && r.modes and k.offers @> r.needs
          and extract(isodow from p_now at time zone k.zone)::int = any(k.days)
          and extract(hour from p_now at time zone k.zone) * 60 + extract(minute from p_now at time zone k.zone)
              between k.from_minute and k.to_minute - 1
        order by k.id limit 1 for update into o;
        if found and (select count(*) from question q where q.overflow_id = o.id and q.asked_at >= overflow_day(o, p_now))
                < o.most_a_day then
            said := 'asked';
            until := p_now + make_interval(mins => t.mt_ask_min);
            -- as haversine_km
            km := 2 * 6371.0088 * asin(sqrt(
                sind((o.lat - r.lat) / 2) ^ 2 + cosd(r.lat) * cosd(o.lat) * sind((o.lon - r.lon) / 2) ^ 2));
            insert into question (id, request_id, overflow_id, km, asked_at, answer_by)
            values (md5('mt:' || r.id)::uuid, r.id, o.id, round(km), p_now, until) returning id into put;
        else
            said := 'not_askable';
        end if;
    end if;
    update request set mt_said = said, mt_until = until where id = r.id;
    return query select * from announce_questions(p_now, array_remove(array[put], null));
end $$;

-- How many patients have a médecin traitant, by commune of theirs.
create function mt_counts(p_territory text, p_from timestamptz, p_to timestamptz, p_communes text[])
returns table (insee text, yes int, no int, unknown int) language sql stable as $$
    select r.insee, count(*) filter (where r.has_mt = 'yes')::int, count(*) filter (where r.has_mt = 'no')::int,
           count(*) filter (where r.has_mt = 'unknown')::int
    from request r
    where r.territory = p_territory and r.created_at >= p_from and r.created_at < p_to
      and (p_communes is null or r.insee = any(p_communes))
    group by r.insee order by r.insee
$$;
