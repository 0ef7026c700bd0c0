-- The day that was just played, :back days earlier: what a week of it would have left in the ledger. For pictures only.
begin;
insert into slot (source, external_id, territory, professional, professional_name, structure, structure_name, source_kind,
    lat, lon, landmass, insee, label, phone, starts, ends, capacity, mode, booking_kind, profession, specialty, offers,
    visibility, valid_at, checked_at, changed_at, version)
select source, external_id || '-j:back', territory, professional, professional_name, structure, structure_name,
    source_kind, lat, lon, landmass, insee, label, phone, starts - :back * interval '1 day',
    ends - :back * interval '1 day', capacity, mode, booking_kind, profession, specialty, offers, visibility, valid_at,
    checked_at, changed_at, version
from slot s where external_id not like '%-j_' and starts < now() + interval '26 hours' and (
    exists (select from booking b where b.slot_id = s.id and b.firm_at is not null)
    or hashtext(external_id || ':back') % 3 = 0);

create temporary table again on commit drop as
select r.id as old, gen_random_uuid() as request, gen_random_uuid() as booking,
    abs(hashtext(r.id::text || ':back')) as luck
from request r
where r.created_at > now() - interval '1 hour' and r.status in ('firm', 'unserved', 'waiting')
  and abs(hashtext(r.id::text || ':back')) % 10 < 9;

insert into request (id, key_id, territory, lat, lon, insee, profession, modes, tier, delay, created_at, deadline,
    radius_km, needs, age_band, mt, priority, on_phone, status, decision, booking_id)
select a.request, key_id, territory, lat, lon, insee, profession, modes, tier, delay,
    created_at - :back * interval '1 day' - (luck % 120) * interval '1 minute',
    deadline - :back * interval '1 day' - (luck % 120) * interval '1 minute', radius_km, needs, age_band, mt, priority,
    on_phone, case when status <> 'firm' then 'unserved' when luck % 25 = 0 then 'noshow' else 'fulfilled' end, decision,
    case status when 'firm' then a.booking end
from again a join request r on r.id = a.old;

insert into booking (id, request_id, slot_id, seat, territory, professional, state, slot_version, held_at, firm_at)
select a.booking, a.request, s.id, b.seat, b.territory, b.professional,
    case when luck % 25 = 0 then 'noshow' else 'fulfilled' end, b.slot_version,
    r.created_at, r.created_at + (20 + luck % 200) * interval '1 second'
from again a join request r on r.id = a.request join request o on o.id = a.old
join booking b on b.id = o.booking_id join slot was on was.id = b.slot_id
join slot s on s.source = was.source and s.external_id = was.external_id || '-j:back'
where o.status = 'firm';
commit;
