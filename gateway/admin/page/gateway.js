// The page of a gateway. It shows the events of /api/v1/events and sends changes to /api/v1. Whatever comes from the
// gateway is set as text, never as HTML.

import uPlot from "/uplot.js";

const API = "/api/v1";
const WINDOW = 10; // seconds over which rates and percentiles are computed
const HISTORY = 600; // samples of the charts, one a second
const STALE = 5; // seconds without an event after which the figures are called old
const TOKEN = "gateway.token";

export const $ = id => document.getElementById(id);
const state = {
  token: sessionStorage.getItem(TOKEN) || "",
  role: null,
  samples: [], // the events of the last WINDOW seconds
  heard: 0, // when the last event came, in milliseconds
  asked: 0, // confirmations so far
  charts: null,
  history: { at: [], rate: [], failed: [], median: [], p99: [] },
};

// ------------------------------------------------------------------------------------------------------------- figures

/** The duration in seconds below which `share` of the requests stay; null without requests.
 *  `cells`: counts up to each of `bounds`, and beyond the last. Within a cell, durations count as evenly spread. */
export function percentile(cells, bounds, share) {
  const all = cells.reduce((sum, count) => sum + count, 0);
  if (all <= 0) return null;
  let left = share * all;
  for (let i = 0; i < bounds.length; i++) {
    if (cells[i] > 0 && left <= cells[i]) {
      const low = i ? bounds[i - 1] : 0;
      return low + (bounds[i] - low) * left / cells[i];
    }
    left -= cells[i];
  }
  return bounds[bounds.length - 1];
}

/** What was added to counters from one report to a later one; all of it, if the counters began anew in between. */
export function added(now, before) {
  if (Array.isArray(now)) {
    const differences = now.map((value, i) => value - (before ? before[i] : 0));
    return differences.some(value => value < 0) ? now : differences;
  }
  return before === undefined || now < before ? now : now - before;
}

const sum = values => values.reduce((total, value) => total + value, 0);
const requests = one => sum(one.answers) + one.unanswered;
const failures = one => one.answers[4] + one.unanswered;
const named = (list, name) => list.find(item => item.name === name);

function number(value, digits = 1) {
  if (value === null || value === undefined) return "–";
  const shown = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : digits;
  return value.toLocaleString("en", { maximumFractionDigits: shown, minimumFractionDigits: 0 });
}

function duration(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${number(seconds * 1000, seconds < 0.01 ? 1 : 0)} ms` : `${number(seconds, 2)} s`;
}

export const clock = seconds => new Date(seconds * 1000).toLocaleTimeString("en-GB");
const bytes = value => value >= 1 << 30 ? `${number(value / (1 << 30))} GiB` : `${number(value / (1 << 20), 0)} MiB`;

// ---------------------------------------------------------------------------------------------------------- the document

/** Set a node's text, if that has changed: screen readers and selections stay undisturbed. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

export function element(name, parent, attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

/** Let the children of `parent` be one for each item, in their order; `make` makes one, `fill` sets its contents. */
export function each(parent, items, key, make, fill) {
  const present = new Map([...parent.children].map(child => [child.dataset.key, child]));
  let after = null;
  for (const item of items) {
    const name = key(item);
    let child = present.get(name);
    present.delete(name);
    if (!child) {
      child = make(parent, item);
      child.dataset.key = name;
    }
    if ((after ? after.nextSibling : parent.firstChild) !== child) parent.insertBefore(child, after ? after.nextSibling : parent.firstChild);
    fill(child, item);
    after = child;
  }
  for (const child of present.values()) child.remove();
}

/** Fill a table: a row for each item, of cells that are text or [text, class]; the first one names the row. */
function rows(table, items, key, cells, kinds = []) {
  const body = table.tBodies[0] || table.createTBody();
  each(body, items, key, parent => element("tr", parent), (row, item) => {
    cells(item).forEach((value, i) => {
      const [text, name] = Array.isArray(value) ? value : [value, ""];
      const cell = row.children[i] || element(i ? "td" : "th", row, i ? {} : { scope: "row" });
      setClass(cell, `${kinds[i] || ""} ${name}`.trim());
      setText(cell, text);
    });
  });
}

function figures(list, items) {
  each(list, items, item => item[0], parent => {
    const box = element("div", parent);
    element("dt", box);
    element("dd", box);
    return box;
  }, (box, [name, text, kind]) => {
    setText(box.children[0], name);
    setText(box.children[1], text);
    setClass(box.children[1], kind || "");
  });
}

// ------------------------------------------------------------------------------------------------------------- the parts

function showHead({ gateway, problems }) {
  const many = problems.length;
  document.title = `${many ? `(${many}) ` : ""}${gateway.node} – gateway`;
  setText($("node"), gateway.node);
  const node = gateway.overrides.node;
  document.querySelector("[data-node][data-command=drain]").hidden = node !== null && node !== "ready";
  document.querySelector("[data-node][data-command=ready]").hidden = node === null || node === "ready";
  setText($("about"), `${gateway.tree.state}${node ? `, set to ${node}` : ""} · ${gateway.program} · site ${versionText(gateway.version, gateway.tree.last_reload.history)} `
    + `since ${clock(gateway.tree.last_reload.at)}`);
}

function showProblems({ problems, recent }) {
  const items = problems.length ? problems : [{ what: "", why: "None." }];
  each($("problem-list"), items, ({ what, why }) => `${what} ${why}`, (parent, { what, why }) => {
    const item = element("li", parent, what ? {} : { class: "none" });
    if (what) {
      setText(element("b", item), what);
      item.append(" ");
    }
    setText(element("span", item), why);
    return item;
  }, () => {});
  $("recent").hidden = !recent.length;
  setText($("recent-title"), `${recent.length} in the last ten minutes`);
  each($("recent-list"), recent, one => `${one.what} ${one.why}`, parent => element("li", parent), (item, one) =>
    setText(item, `${one.what}: ${one.why}`));
}

/** Rates of a frontend, backend or class over the window. */
function rates(now, before, seconds) {
  const cells = added(now.durations, before && before.durations);
  return { rate: added(requests(now), before && requests(before)) / seconds,
    failed: added(failures(now), before && failures(before)) / seconds, cells };
}

function total(list, before, seconds) {
  const all = list.map(one => rates(one, named(before, one.name), seconds));
  const cells = all.length ? all[0].cells.map((_, i) => sum(all.map(one => one.cells[i]))) : [];
  return { rate: sum(all.map(one => one.rate)), failed: sum(all.map(one => one.failed)), cells };
}

function showTraffic(now, before, seconds) {
  const { gateway, durations } = now;
  const all = total(gateway.frontends, before.gateway.frontends, seconds);
  const at = share => percentile(all.cells, durations, share);
  const share = all.rate ? 100 * all.failed / all.rate : 0;
  const inFlight = sum(gateway.backends.flatMap(backend => backend.servers.map(server => server.in_flight)));
  figures($("figures"), [
    ["requests/s", number(all.rate)],
    ["failed", `${number(share)} %`, share >= 1 ? "bad" : share > 0 ? "warn" : ""],
    ["median", duration(at(0.5))],
    ["95th", duration(at(0.95))],
    ["99th", duration(at(0.99))],
    ["clients", number(sum(gateway.frontends.map(one => one.open)))],
    ["in flight", number(inFlight)],
    ["queued", number(sum(gateway.backends.map(one => one.queued)))],
  ]);
  rows($("frontends"), gateway.frontends, one => one.name, one => {
    const its = rates(one, named(before.gateway.frontends, one.name), seconds);
    return [one.name, number(its.rate), duration(percentile(its.cells, durations, 0.5)),
      duration(percentile(its.cells, durations, 0.99)), `${number(one.open)} of ${number(one.limit)}`,
      [number(one.turned_away), one.turned_away ? "warn" : ""]];
  }, ["", "n", "n", "n", "n", "n less"]);
  const outcomes = new Map();
  for (const one of gateway.frontends) {
    const earlier = named(before.gateway.frontends, one.name);
    for (const [name, count] of Object.entries(one.outcomes)) {
      const [rate, sofar] = outcomes.get(name) || [0, 0];
      outcomes.set(name, [rate + added(count, earlier && (earlier.outcomes[name] || 0)) / seconds, sofar + count]);
    }
  }
  const sorted = [...outcomes].sort((a, b) => b[1][1] - a[1][1]);
  rows($("outcomes"), sorted, one => one[0], ([name, [rate, sofar]]) => [name, number(rate), number(sofar)], ["", "n", "n"]);
  const { history } = state;
  const values = { at: now.at, rate: all.rate, failed: all.failed, median: at(0.5), p99: at(0.99) };
  for (const [name, value] of Object.entries(values)) {
    history[name].push(name === "median" || name === "p99" ? (value === null ? null : value * 1000) : value);
    if (history[name].length > HISTORY) history[name].shift();
  }
  showCharts();
  setText($("rate-text"), `${number(all.rate)} requests per second, ${number(all.failed)} failed`);
  setText($("latency-text"), `median ${duration(at(0.5))}, 99th percentile ${duration(at(0.99))}`);
}

function showServers(now, before, seconds) {
  each($("backends"), now.gateway.backends, one => one.name, makeBackend, (box, backend) => {
    const earlier = named(before.gateway.backends, backend.name);
    const its = rates(backend, earlier, seconds);
    const available = backend.servers.filter(one => one.state !== "down" && one.ejection === "in rotation" && one.admin === "ready");
    const limit = backend.concurrency && backend.concurrency.limit;
    setText(box.querySelector("p"), [
      backend.balance, `${available.length} of ${backend.servers.length} available`, `${number(its.rate)} req/s`,
      `p99 ${duration(percentile(its.cells, now.durations, 0.99))}`,
      ...backend.queued ? [`${number(backend.queued)} queued`] : [],
      ...limit ? [`limit ${number(limit)} in flight`] : [],
    ].join(" · "));
    each(box.querySelector("tbody"), backend.servers, one => one.name, makeServer, (row, server) =>
      fillServer(row, backend, server, earlier && named(earlier.servers, server.name), seconds));
  });
}

function makeBackend(parent, backend) {
  const box = element("div", parent);
  const head = element("div", box, { class: "backend" });
  const title = element("h3", head, { id: `backend-${backend.name}` });
  setText(title, backend.name);
  element("p", head);
  const region = element("div", box, { class: "wide servers", role: "region", "aria-labelledby": title.id, tabindex: "0" });
  const table = element("table", region, { role: "table", "aria-labelledby": title.id });
  const row = element("tr", element("thead", table, { role: "rowgroup" }), { role: "row" });
  const heads = [["Server"], ["State"], ["Load", "n less"], ["In flight", "n less"], ["Weight", "n less"], ["Req/s", "n less"],
    ["Failed/s", "n less"], ["Mean", "n less"], ["Sessions", "n less"], ["Last check", "less"], ["Commands", "commands"]];
  for (const [text, kind] of heads) setText(element("th", row, { scope: "col", role: "columnheader", class: kind || "" }), text);
  element("tbody", table, { role: "rowgroup" });
  return box;
}

function makeServer(parent) {
  const row = element("tr", parent, { role: "row" });
  const name = element("th", row, { scope: "row", role: "rowheader" });
  element("span", name);
  element("span", name, { class: "details" });
  for (const kind of ["", "n less", "n less", "n less", "n less", "n less", "n less", "n less", "less", "commands"])
    element("td", row, { role: "cell", class: kind, "data-kind": kind });
  return row;
}

/** The state of a server in words, and how it is to be seen. */
function serverState(server) {
  const words = [];
  if (server.admin !== "ready") words.push(server.admin);
  if (server.ejection !== "in rotation") words.push(server.ejection);
  if (server.state !== "up" || !words.length) words.unshift(server.state);
  if (server.slow_start < 1) words.push(`slow start ${number(100 * server.slow_start, 0)} %`);
  if (server.backup) words.push("backup");
  const kind = server.state === "down" || server.ejection === "ejected" ? "bad" : words[0] === "up" && words.length === 1 ? "" : "warn";
  return [words.join(", "), kind];
}

function fillServer(row, backend, server, before, seconds) {
  const full = `${backend.name}/${server.name}`;
  const count = added(server.requests, before && before.requests);
  const failed = added(server.failures, before && before.failures) / seconds;
  const mean = count ? added(server.busy_seconds, before && before.busy_seconds) / count : null;
  const load = server.load === null ? "–" : `${number(100 * server.load, 0)} %`;
  const weight = server.override && server.override.weight !== null ? `${number(server.effective_weight)} (set ${server.override.weight})` : number(server.effective_weight);
  const left = server.admin === "ready" ? "" : " left";
  const sessions = server.sessions === null ? "–" : `${number(server.sessions)}${left}`;
  const check = server.check ? `${server.check.result} ${duration(server.check.seconds)}` : "–";
  const [words, kind] = serverState(server);
  const cells = [[words, kind], [load], [`${number(server.in_flight)}${server.max_connections ? ` of ${server.max_connections}` : ""}`],
    [weight], [number(count / seconds)], [number(failed), failed ? "warn" : ""], [duration(mean)], [sessions],
    [check, server.check && !server.check.good ? "bad" : ""]];
  const [name, details] = row.children[0].children;
  setText(name, server.name);
  setText(details, `${cells[2][0]} in flight · load ${load} · ${number(count / seconds)} req/s · ${sessions === "–" ? "" : `${number(server.sessions)} sessions${left} · `}${check}`);
  if (row.title !== server.address) row.title = server.address;
  cells.forEach(([text, look], i) => {
    const cell = row.children[i + 1];
    setText(cell, text);
    setClass(cell, `${cell.dataset.kind} ${look || ""}`.trim());
  });
  const wanted = !may("operate") ? [] : [
    ...server.admin === "ready" ? ["drain", "maintenance"] : ["ready"], ...server.override ? ["forget"] : []];
  each(row.lastChild, wanted, command => command, (parent, command) => {
    const button = element("button", parent, { type: "button", "aria-label": `${WORDS[command]} ${full}` });
    setText(button, WORDS[command]);
    button.addEventListener("click", () => ask(command, { target: full }));
    return button;
  }, () => {});
}

function showClasses(now, before, seconds) {
  const { classes, sessions } = now.gateway;
  $("classes").hidden = !classes.length && !sessions;
  figures($("sessions"), sessions ? [
    ["sessions", `${number(sessions.live)}${sessions.max ? ` of ${number(sessions.max)}` : ""}`],
    ["waiting", number(sessions.waiting), sessions.waiting ? "warn" : ""],
    ["places", number(sessions.places)],
    ["admitted", number(sessions.admitted)],
    ["leave the queue/s", number(sessions.advance_rate, 2)],
  ] : []);
  rows($("class-table"), classes, one => one.name, one => {
    const its = rates(one, named(before.gateway.classes, one.name), seconds);
    return [one.name, number(its.rate), `${number(one.in_flight)}${one.concurrency ? ` of ${one.concurrency}` : ""}`,
      [number(one.queued), one.queued ? "warn" : ""], duration(percentile(its.cells, now.durations, 0.99)), one.limit || "–", one.why];
  }, ["", "n", "n", "n", "n", "text", "text"]);
  $("class-table").hidden = !classes.length;
}

function showCluster({ cluster }) {
  $("cluster").hidden = !cluster;
  if (!cluster) return;
  setText($("cluster-about"), `${cluster.node}: ${cluster.admin_state} · ${cluster.mode} · fitness ${cluster.health.believed} of 255`
    + `${cluster.health.reason ? ` (${cluster.health.reason})` : ""} · lease enforced by ${cluster.lease_enforced_by}`);
  const table = $("map");
  const head = table.tHead || element("thead", table);
  const columns = [["Address", ""], ...cluster.nodes.map(node => [node.name, node.alive ? node.state : "not heard"])];
  const top = head.rows[0] || head.insertRow();
  each(top, columns, column => column[0], parent => element("th", parent, { scope: "col" }), (cell, [name, its]) => {
    setText(cell, its ? `${name} (${its})` : name);
    setClass(cell, its === "not heard" ? "bad" : "");
  });
  rows(table, cluster.addresses, one => one.address, one => [
    [one.address, one.owner ? "" : "bad"],
    ...cluster.nodes.map(node => node.name === one.owner
      ? [`owner${one.lease === null ? "" : `, lease ${number(one.lease, 1)} s`}${one.leaving ? ", leaving" : ""}`, "owner"]
      : [node.own ? one.state : "", "faint"]),
  ]);
  $("cluster-commands").hidden = !may("operate");
  const events = cluster.history.slice(-8).reverse();
  each($("cluster-events"), events, one => `${one.at} ${one.about} ${one.what}`, parent => element("li", parent), (item, one) =>
    setText(item, `${clock(one.at)} ${one.about} ${one.what}`));
}

function showNameServer(now, before, seconds) {
  const { dns } = now.gateway;
  const earlier = before.gateway.dns;
  const rate = (what, past) => added(what, past) / seconds;
  const of = (counts, past, names) => sum(names.map(name => rate(counts[name] || 0, past ? past[name] || 0 : undefined)));
  const answers = dns ? Object.keys(dns.codes) : [];
  const failed = dns ? of(dns.codes, earlier && earlier.codes, answers.filter(name => !["NOERROR", "NXDOMAIN"].includes(name))) : 0;
  const dropped = dns ? of(dns.dropped, earlier && earlier.dropped, Object.keys(dns.dropped)) : 0;
  figures($("dns-figures"), dns ? [
    ["DNS by UDP/s", number(rate(dns.udp, earlier && earlier.udp))],
    ["by TCP/s", number(rate(dns.tcp, earlier && earlier.tcp))],
    ["answers/s", number(of(dns.codes, earlier && earlier.codes, answers))],
    ["no such name/s", number(of(dns.codes, earlier && earlier.codes, ["NXDOMAIN"]))],
    ["refused, failed/s", number(failed), failed ? "warn" : ""],
    ["dropped/s", number(dropped), dropped ? "warn" : ""],
    ["truncated/s", number(rate(dns.truncated, earlier && earlier.truncated))],
    ["TCP connections", number(dns.tcp_connections)],
  ] : []);
}

function showSites({ gateway }) {
  const sites = Object.entries(gateway.site_states);
  const names = gateway.dns ? gateway.dns.names : [];
  $("sites").hidden = !sites.length && !gateway.dns;
  const own = sites.find(([, one]) => one.own);
  const { evacuation } = gateway;
  for (const [id, shown] of [["evacuate-site", own && !(evacuation && evacuation.by === "command")], ["readmit-site", own && evacuation]]) {
    $(id).hidden = !shown || !may("operate");
    $(id).dataset.site = own ? own[0] : "";
  }
  setText($("evacuation"), evacuation ? evacuationText(evacuation) : "");
  rows($("site-table"), sites, one => one[0], ([name, one]) => [one.own ? `${name} (this one)` : name,
    one.up ? one.evacuated ? ["evacuated", "warn"] : one.draining ? ["draining", "warn"] : "up" : ["not heard", "bad"],
    one.load === null ? "–" : `${number(100 * one.load, 0)} %`, number(one.capacity),
    number(one.sessions_free), ailing(one.backends), number(one.responses, 0)], ["", "", "n", "n", "n", "", "n"]);
  rows($("name-table"), names, one => one.name, one => [one.name, one.policy,
    one.open ? ["no site works: all are answered", "bad"]
      : Object.entries(one.shares).map(([site, share]) => `${site} ${number(100 * share, 0)} %`).join(", ")], ["", "", "text"]);
  $("site-table").hidden = !sites.length;
  $("name-table").hidden = !names.length;
}

function ailing(backends) {
  const found = Object.entries(backends).filter(([, part]) => part < 1);
  return found.length ? [found.map(([name, part]) => `${name} ${number(100 * part, 0)} %`).join(", "), "warn"]
    : Object.keys(backends).length ? "all work" : "–";
}

function day(at) {
  return new Date(at * 1000).toISOString().slice(0, 10);
}

function evacuationText({ site, by, phase, resolvers, left, estimate, addresses }) {
  const until = { resolvers: `resolvers forget it within ${number(resolvers, 0)} s, ${number(left)} sessions and requests left`,
    sessions: `${number(left)} sessions and requests left${estimate === null ? "" : `, about ${number(estimate, 0)} s`}`,
    addresses: `shared addresses still here: ${addresses.join(", ") || "the heartbeat process does not say"}`, done: "done" };
  return `${site} is evacuated by ${by}: ${until[phase] || phase}`;
}

function showCertificates({ gateway, at }) {
  const { soonest } = gateway.tree.certificates;
  const own = gateway.acme ? gateway.acme.certificates : [];
  $("certificates").hidden = !soonest.length && !own.length;
  $("certificate-table").hidden = !soonest.length;
  $("acme-table").hidden = !own.length;
  rows($("acme-table"), own, one => one.name, one => [one.name, one.not_after === null ? "none yet" : day(one.not_after),
    one.state === "ordering" || one.next <= at ? "now" : day(one.next),
    one.failures ? [`last order failed: ${one.error}`, "bad"] : one.state], ["", "", "", "text"]);
  rows($("certificate-table"), soonest, one => one.file, one => {
    const days = Math.floor((one.not_after - at) / 86400);
    return [one.file, day(one.not_after), [number(days), days < 0 ? "bad" : days < 14 ? "warn" : ""]];
  }, ["", "", "n"]);
}

function showProcesses({ gateway }, before, seconds) {
  rows($("process-table"), gateway.processes, one => one.name, one => {
    const earlier = before.gateway.processes.find(other => other.pid === one.pid);
    const share = 100 * added(one.cpu_seconds, earlier && earlier.cpu_seconds) / seconds;
    const deaths = gateway.tree.deaths[one.name] || 0;
    return [one.name, String(one.pid), earlier ? `${number(share, 0)} %` : "–", bytes(one.resident_bytes), [number(deaths), deaths ? "bad" : ""]];
  }, ["", "n", "n", "n", "n"]);
}

async function showAudit() {
  const answer = await call("GET", "/audit");
  if (!answer.ok) return;
  const changes = (await answer.json()).slice(0, 20);
  $("no-changes").hidden = changes.length > 0;
  $("audit-table").hidden = !changes.length;
  rows($("audit-table"), changes, one => `${one.at}`, one => [clock(one.at), one.who, `${one.what} ${one.target}`,
    [one.result, one.result === "done" ? "" : "bad"]], ["", "", "", "text"]);
}

// ---------------------------------------------------------------------------------------------------------------- charts

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function makeChart(holder, series) {
  const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return new uPlot({
    width: holder.clientWidth, height: holder.clientHeight, cursor: { show: false }, legend: { show: false },
    scales: { x: { range: (_, low, high) => [Math.min(low, high - 60), high] }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
    axes: [{ ...axis, size: 24, values: (_, times) => times.map(clock) }, { ...axis, size: 44 }],
    series: [{}, ...series.map(([label, stroke]) => ({ label, stroke: colour(stroke), width: 1.5, points: { show: false } }))],
  }, [[], ...series.map(() => [])], holder);
}

function makeCharts() {
  if (state.charts) for (const chart of state.charts) chart.destroy();
  state.charts = [
    makeChart($("rate-chart"), [["requests per second", "--series-1"], ["failed per second", "--bad"]]),
    makeChart($("latency-chart"), [["median", "--series-1"], ["99th percentile", "--series-2"]]),
  ];
}

function showCharts() {
  if (document.hidden) return;
  if (!state.charts) makeCharts();
  const { at, rate, failed, median, p99 } = state.history;
  state.charts[0].setData([at, rate, failed]);
  state.charts[1].setData([at, median, p99]);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (state.charts) {
    makeCharts();
    showCharts();
  }
});
addEventListener("resize", () => {
  if (!state.charts) return;
  for (const [chart, holder] of [[state.charts[0], $("rate-chart")], [state.charts[1], $("latency-chart")]])
    chart.setSize({ width: holder.clientWidth, height: holder.clientHeight });
});

// ---------------------------------------------------------------------------------------------------------------- events

function show(now) {
  state.samples.push(now);
  while (state.samples.length > 1 && now.at - state.samples[1].at >= WINDOW) state.samples.shift();
  const before = state.samples[0];
  const seconds = now.at - before.at;
  state.heard = Date.now();
  $("all").hidden = false;
  showHead(now);
  showProblems(now);
  if (seconds > 0) {
    showTraffic(now, before, seconds);
    showServers(now, before, seconds);
    showClasses(now, before, seconds);
    showProcesses(now, before, seconds);
    showNameServer(now, before, seconds);
  }
  showCluster(now);
  showSites(now);
  showCertificates(now);
  showLive();
}

function showLive() {
  const age = Math.round((Date.now() - state.heard) / 1000);
  const old = state.heard && age >= STALE;
  setText($("live"), !state.heard ? "connecting" : old ? `no answer for ${age} s: these figures are old` : "live");
  setClass($("live"), old ? "stale" : "");
}

/** Read events until the gateway closes, and give each to `take`; texts are split at empty lines (HTML, section 9.2). */
export async function readEvents(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) take(JSON.parse(part.slice(6)));
  }
}

async function follow() {
  for (;;) {
    try {
      const answer = await call("GET", "/events");
      if (answer.status === 401) {
        signIn(state.token ? "The gateway does not know this token." : "");
        return;
      }
      if (answer.ok) {
        await identify();
        showAudit();
        await readEvents(answer.body, show);
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // the network: the gateway is about to come back, or gone
    }
    await new Promise(resolve => setTimeout(resolve, 1000));
  }
}

// --------------------------------------------------------------------------------------------------------------- changes

const WORDS = {
  apply: "Apply", "evacuate-site": "Evacuate site", "readmit-site": "Readmit site", drain: "Drain", ready: "Ready", maintenance: "Maintenance", forget: "Forget", reload: "Reload",
  evacuate: "Evacuate", standby: "Standby", join: "Join",
};
const MEANINGS = {
  apply: "The site file is replaced, and the gateway reloads it. If that is refused, the file stays as it was.",
  "evacuate-site": "gets no new sessions at once, and no clients from name servers and other sites. Its sessions and requests end, then its shared addresses move. It holds until the site is readmitted.",
  "readmit-site": "takes clients again, from name servers and other sites as well.",
  drain: "gets no new clients. Sessions and requests that it has stay there.",
  ready: "gets new clients again.",
  maintenance: "gets no more requests; its sessions move to other servers.",
  forget: "is again as the site file and its agent say.",
  reload: "The gateway reads its site file again. If that has a mistake, it keeps the present one and says why.",
  evacuate: "Every shared address moves to other nodes, one by one.",
  standby: "Every shared address moves to other nodes; this one takes none.",
  join: "This node takes part in the cluster again.",
};

const ROLES = ["read", "operate", "configure"];
const may = role => state.role !== null && ROLES.indexOf(state.role) >= ROLES.indexOf(role);

export async function call(method, path, body, signal) {
  const headers = {};
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  if (body) headers["Content-Type"] = "application/json";
  return fetch(API + path, { method, headers, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit", signal });
}

async function identify() {
  const answer = await call("GET", "/whoami");
  state.role = answer.ok ? (await answer.json()).role : null;
  $("commands").hidden = !may("operate");
  $("site").hidden = !may("configure");
  $("tail").hidden = !may("operate");
  $("sign-out").hidden = !state.token;
  $("sign-in").hidden = true;
}

export function tell(text, failed = false) {
  setClass($("done"), failed ? "failed" : "");
  setText($("done"), text);
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => setText($("done"), ""), failed ? 20000 : 6000);
}

/** Ask for confirmation, then carry out a command. */
async function ask(command, body, done) {
  const target = body.node ? "This gateway" : body.target || body.site || "";
  setText($("confirm-title"), `${WORDS[command]}${target ? ` ${body.node ? "this gateway" : target}` : ""}?`);
  setText($("confirm-text"), `${target ? `${target} ` : ""}${MEANINGS[command]}`);
  setText($("confirm-yes"), WORDS[command]);
  const dialog = $("confirm");
  dialog.returnValue = "no";
  dialog.showModal();
  // The event of a dialog that was closed may come only after it was opened for the next command.
  const mine = ++state.asked;
  do await new Promise(resolve => dialog.addEventListener("close", resolve, { once: true })); while (dialog.open && mine === state.asked);
  if (mine !== state.asked || dialog.returnValue !== "yes") return;
  const what = `${WORDS[command]} ${target}`.trim();
  tell(`${what} …`);
  try {
    const answer = await call("POST", `/${command}`, body);
    const said = await answer.json();
    if (answer.ok && done) done();
    if (answer.ok) tell(said?.problem || `${what}: done${said?.version ? `, ${versionText(said.version, said.history)}` : ""}`, Boolean(said?.problem));
    else tell(said.error, true);
  } catch (error) {
    tell(`${what}: no answer from the gateway (${error.message})`, true);
  }
  showAudit();
}

/** Show the answer to a question about the running gateway below the form. */
async function inquire(path, body, text) {
  const place = $("explained");
  place.hidden = false;
  setText(place, "…");
  try {
    const answer = await call("POST", path, body);
    const said = await answer.json();
    setText(place, answer.ok ? text(said) : said.error);
  } catch (error) {
    setText(place, `no answer from the gateway (${error.message})`);
  }
}

function verdicts({ tests }) {
  const failed = tests.filter(test => !test.passed);
  const lines = failed.map(test => `line ${test.line}: ${test.request}: ${test.why}`);
  return [`${tests.length - failed.length} of ${tests.length} tests pass`, ...lines].join("\n");
}

$("explain-form").addEventListener("submit", event => {
  event.preventDefault();
  const lines = $("explain-headers").value.split("\n").filter(line => line.includes(":"));
  const headers = lines.map(line => [line.slice(0, line.indexOf(":")).trim(), line.slice(line.indexOf(":") + 1).trim()]);
  inquire("/explain", { request: $("explain-request").value, client: $("explain-client").value, headers }, said => said.text);
});
$("run-tests").addEventListener("click", () => inquire("/tests", {}, verdicts));

// ----------------------------------------------------------------------------------------------------------- the editor

const editor = { used: "", undo: null, checks: 0, timer: 0 };

async function loadSite() {
  const answer = await call("GET", "/site");
  const said = await answer.json();
  if (!answer.ok) {
    tell(said.error, true);
    return;
  }
  editor.used = said.text;
  setText($("site-path"), said.path);
  $("site-text").value = said.text;
  $("editor").hidden = false;
  showVersions();
  $("undo").hidden = editor.undo === null;
  checkSite();
}

/** Let the gateway check what is written; the answer to an older text is dropped. */
async function checkSite() {
  const mine = ++editor.checks;
  const text = $("site-text").value;
  $("apply").disabled = true;
  try {
    const answer = await call("POST", "/check", { text });
    const said = await answer.json();
    if (mine === editor.checks) showCheck(answer.ok ? said : { ok: false, problems: [{ line: 1, column: 1, severity: "error", message: said.error }], tests: [], diff: "" }, text);
  } catch (error) {
    if (mine === editor.checks) setText($("site-verdict"), `not checked: no answer from the gateway (${error.message})`);
  }
}

function showCheck({ ok, problems, tests, diff }, text) {
  const failed = tests.filter(test => !test.passed);
  const errors = problems.filter(problem => problem.severity === "error").length;
  setText($("site-verdict"), !ok ? `${errors} error${errors === 1 ? "" : "s"}`
    : `valid; ${tests.length - failed.length} of ${tests.length} tests pass${text === editor.used ? "; this is the file in use" : ""}`);
  setClass($("site-verdict"), !ok ? "bad" : failed.length ? "warn" : "");
  each($("site-problems"), problems, one => `${one.line}:${one.column} ${one.message}`, parent => {
    const item = element("li", parent);
    element("button", item, { type: "button" });
    return item;
  }, (item, one) => {
    setText(item.firstChild, `line ${one.line}: ${one.severity}: ${one.message}`);
    setClass(item.firstChild, one.severity === "error" ? "bad" : "warn");
    item.firstChild.onclick = () => select(one.line, one.column);
  });
  each($("site-tests"), failed, one => `${one.line} ${one.request}`, parent => element("li", parent, { class: "warn" }), (item, one) =>
    setText(item, `line ${one.line}: ${one.request}: ${one.why}`));
  $("site-diff").hidden = !diff;
  setText($("site-diff"), diff);
  $("apply").disabled = !ok || text === editor.used;
}

/** Put the cursor at a line and column, both from 1. */
function select(line, column) {
  const area = $("site-text");
  const start = area.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0) + column - 1;
  area.focus();
  area.setSelectionRange(start, start);
  area.scrollTop = (line - 5) * area.scrollHeight / Math.max(1, area.value.split("\n").length);
}

function apply(text) {
  const before = editor.used;
  ask("apply", { text }, () => {
    editor.undo = before;
    loadSite();
  });
}

/** The configurations that ran, the newest first. */
async function showVersions() {
  const answer = await call("GET", "/history");
  const versions = answer.ok ? (await answer.json()).versions.reverse() : [];
  $("history").hidden = !versions.length;
  each($("version-table").tBodies[0], versions, one => `${one.number}`, parent => {
    const row = element("tr", parent);
    for (const name of ["th", "td", "td", "td", "td"]) element(name, row, name === "th" ? { scope: "row" } : {});
    setClass(row.lastChild, "commands");
    return row;
  }, (row, one) => {
    const texts = [String(one.number), new Date(one.at * 1000).toLocaleString("en-GB"), one.by, versionNote(one)];
    texts.forEach((text, i) => setText(row.children[i], text));
    each(row.lastChild, ["Difference", "Put into the editor"], word => word, (parent, word) => {
      const button = element("button", parent, { type: "button", "aria-label": `${word}: version ${one.number}` });
      setText(button, word);
      button.addEventListener("click", () => word === "Difference" ? compare(one.number) : restore(one.number));
      return button;
    }, () => {});
  });
}

/** What a configuration is called: its version in the history, or, if it is not there, which load it is. */
function versionText(load, history) {
  return history ? `version ${history}` : `load ${load}`;
}

function versionNote(one) {
  return [one.same_as === null ? "" : `same as ${one.same_as}`, one.in_force ? "in force" : ""].filter(Boolean).join(", ");
}

async function compare(number) {
  const answer = await call("POST", "/history/diff", { before: number });
  const said = await answer.json();
  $("version-diff").hidden = false;
  setText($("version-diff"), answer.ok ? said.changes || `version ${number} is as the files are now` : said.error);
}

async function restore(number) {
  const answer = await call("POST", "/history/show", { number });
  const said = await answer.json();
  if (!answer.ok) {
    tell(said.error, true);
    return;
  }
  $("site-text").value = said.text;
  checkSite();
  $("site-text").focus();
  tell(said.differing.length ? `other files are not as they were in version ${number}: ${said.differing.join(", ")}`
    : `version ${number} is in the editor; it is not applied yet`, said.differing.length > 0);
}

for (const id of ["evacuate-site", "readmit-site"])
  $(id).addEventListener("click", () => ask(id, { site: $(id).dataset.site }));
$("edit").addEventListener("click", loadSite);
$("revert").addEventListener("click", loadSite);
$("apply").addEventListener("click", () => apply($("site-text").value));
$("undo").addEventListener("click", () => apply(editor.undo));
$("site-text").addEventListener("input", () => {
  $("apply").disabled = true;
  clearTimeout(editor.timer);
  editor.timer = setTimeout(checkSite, 500);
});

function signIn(why) {
  $("sign-in").hidden = false;
  $("all").hidden = true;
  $("commands").hidden = true;
  setText($("live"), "token required");
  if (why) setText($("sign-in-why"), why);
  $("token").focus();
}

$("sign-in").addEventListener("submit", event => {
  event.preventDefault();
  state.token = $("token").value.trim();
  sessionStorage.setItem(TOKEN, state.token);
  $("token").value = "";
  $("sign-in").hidden = true;
  follow();
});
$("sign-out").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  location.reload();
});
for (const button of document.querySelectorAll("button[data-command]"))
  button.addEventListener("click", () => ask(button.dataset.command, "node" in button.dataset ? { node: true } : {}));

setInterval(showLive, 1000);
follow();
