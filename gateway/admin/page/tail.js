// Requests as they end, from /api/v1/logs.

import { $, call, clock, each, element, readEvents, setClass, setText, tell } from "/gateway.js";

const SHOWN = 100; // requests in the table

const tail = { abort: null, count: 0, lost: 0, rows: [], drawn: 0 };

function query() {
  const given = { when: $("tail-when").value.trim(), outcome: $("tail-outcome").value, id: $("tail-id").value.trim() };
  return new URLSearchParams(Object.entries(given).filter(([, value]) => value)).toString();
}

/** Fill the choice of outcomes by the description of the API. */
async function offerOutcomes() {
  const choice = $("tail-outcome");
  if (choice.options.length > 1) return;
  const answer = await call("GET", "/openapi.json");
  if (!answer.ok) return;
  const { parameters } = (await answer.json()).paths["/logs"].get;
  const names = parameters.find(one => one.name === "outcome").schema.items.enum;
  for (const name of names) setText(element("option", choice, { value: name }), name);
}

function take(said) {
  if ("lost" in said) tail.lost += said.lost;
  else {
    tail.rows.unshift({ ...said, key: `${tail.count++}` });
    tail.rows.length = Math.min(tail.rows.length, SHOWN);
  }
  if (!tail.drawn) tail.drawn = setTimeout(draw, 250);
}

function draw() {
  tail.drawn = 0;
  const lost = tail.lost ? `, ${tail.lost} left out because they came too fast` : "";
  setText($("tail-state"), tail.abort ? `following; ${tail.count} requests${lost}` : `ended; ${tail.count} requests${lost}`);
  $("tail-table").hidden = !tail.rows.length;
  each($("tail-table").tBodies[0], tail.rows, one => one.key, parent => element("tr", parent), (row, one) => {
    if (row.children.length) return; // a request that has ended does not change
    const failed = one.side === "server" || one.side === "gateway";
    const where = one.server ? `${one.backend}/${one.server}` : one.backend || "gateway";
    const cells = [[clock(Date.parse(one.time) / 1000), ""], [String(one.status || "–"), failed ? "bad" : ""],
      [`${one.method || ""} ${one.scheme}://${one.host || "-"}${one.uri}`, "text"], [`${one.duration_ms.toFixed(1)} ms`, "n"],
      [one.client || "unix", ""], [where, ""], [one.outcome, failed ? "bad" : ""], [one.request_id, "faint"]];
    cells.forEach(([text, kind], i) => setText(element(i ? "td" : "th", row, i ? { class: kind } : { scope: "row" }), text));
  });
}

async function begin() {
  Object.assign(tail, { abort: new AbortController(), count: 0, lost: 0, rows: [] });
  setText($("tail-start"), "Stop");
  setClass($("tail-state"), "");
  draw();
  try {
    const answer = await call("GET", `/logs?${query()}`, undefined, tail.abort.signal);
    if (answer.ok) await readEvents(answer.body, take);
    else tell((await answer.json()).error, true);
  } catch (error) {
    if (error.name !== "AbortError" && !(error instanceof TypeError)) throw error; // ended here, or there
  }
  tail.abort = null;
  setText($("tail-start"), "Follow");
  draw();
}

$("tail-form").addEventListener("submit", event => {
  event.preventDefault();
  if (tail.abort) tail.abort.abort();
  else begin();
});
$("tail").addEventListener("focusin", offerOutcomes);
