// What ical.js (Mozilla's, of libical's lineage) and the clocks of ICU make of rules: a line of JSON in, one out.
// in: {rule, first, start, minutes, zone, without, more, begin, end, walked}; out: [[start, end] in epoch milliseconds, …].
// walked: the days of the rule, where ical.js is not to be asked.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const ICAL = (await import(pathToFileURL(process.argv[2]).href)).default;
const MINUTE = 60000, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const clocks = new Map(), shown = new Map();

function clock(zone) {
  if (!clocks.has(zone)) {
    clocks.set(zone, new Intl.DateTimeFormat("en-GB", {
      timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
      second: "2-digit" }));
  }
  return clocks.get(zone);
}

// The offset of a zone at an instant, as ICU's clock shows it.
function offset(zone, at) {
  const key = `${zone} ${at}`;
  if (!shown.has(key)) {
    if (shown.size > 200000) shown.clear();
    const p = Object.fromEntries(clock(zone).formatToParts(new Date(at)).map((one) => [one.type, Number(one.value)]));
    shown.set(key, Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second) - at);
  }
  return shown.get(key);
}

// The first instant at which the clock shows a local time; one that is skipped counts by the offset before it.
function instant(zone, local) {
  const around = [-DAY, DAY].map((by) => offset(zone, local + by));
  const found = around.map((by) => local - by).filter((at) => at + offset(zone, at) === local);
  return found.length ? Math.min(...found) : local - around[0];
}

function days(one) {
  const set = new Set(one.more), [begin, end] = [one.begin, one.end];
  one.walked?.forEach((day) => set.add(day));
  const steps = one.walked ? null : ICAL.Recur.fromString(one.rule).iterator(ICAL.Time.fromDateString(one.first));
  for (let day = steps?.next(); day && day.toString() <= end; day = steps.next()) set.add(day.toString());
  one.without.forEach((day) => set.delete(day));
  return [...set].filter((day) => begin <= day && day <= end).sort();
}

for await (const line of createInterface({ input: process.stdin })) {
  const one = JSON.parse(line);
  const spans = days(one).map((day) => {
    const local = Date.parse(`${day}T${one.start}:00Z`);
    return [instant(one.zone, local), instant(one.zone, local + one.minutes * MINUTE)];
  });
  process.stdout.write(`${JSON.stringify(spans)}\n`);
}
