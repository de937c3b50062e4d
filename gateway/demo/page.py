"""The page of the demo's servers: which server answered, its load, and which servers answer the next requests."""

from html import escape

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{server} answered</title>
<style>
  body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 3rem auto; padding: 0 1rem;
         color: #1d2733; background: #f6f8fa; }}
  h1 {{ font-size: 2rem; margin: 0; }}
  main {{ background: #fff; border: 1px solid #d8dee6; border-radius: .75rem; padding: 1.5rem 2rem; }}
  p {{ margin: .25rem 0 1.25rem; color: #526070; }}
  .row {{ display: grid; grid-template-columns: 4rem 1fr 4rem; gap: .75rem; align-items: center; }}
  .row + .row {{ margin-top: .5rem; }}
  .bar {{ height: .9rem; border-radius: .45rem; background: #e6ebf1; overflow: hidden; }}
  .bar i {{ display: block; height: 100%; background: #2f6fde; transition: width .2s; }}
  .row b {{ text-align: right; font-variant-numeric: tabular-nums; }}
  button {{ font: inherit; margin: 1.5rem 0 1rem; padding: .4rem 1rem; border: 0; border-radius: .5rem;
           color: #fff; background: #2f6fde; cursor: pointer; }}
  button:disabled {{ opacity: .5; }}
</style>
<main>
<h1>{server}</h1>
<p>{about}<br>Answered after {milliseconds:.0f}&nbsp;ms, request {count:,} of this server.</p>
<div class="row"><span>load</span><span class="bar"><i style="width:{load:.0f}%"></i></span>
<b>{load:.0f}%</b></div>
<button>Send 300 requests</button>
<div id="answers"></div>
</main>
<script>
const button = document.querySelector("button"), answers = document.querySelector("#answers");
const show = counts => {{
  const all = Object.values(counts).reduce((a, b) => a + b, 0);
  answers.innerHTML = Object.keys(counts).sort().map(name =>
    `<div class="row"><span>${{name}}</span><span class="bar">` +
    `<i style="width:${{100 * counts[name] / all}}%"></i></span><b>${{counts[name]}}</b></div>`).join("");
}};
button.onclick = async () => {{
  const counts = {{}};
  let left = 300;
  const client = async () => {{
    while (left-- > 0) {{
      const response = await fetch("/who");
      const name = response.ok ? (await response.text()).trim() : "failed";
      counts[name] = (counts[name] || 0) + 1;
      show(counts);
    }}
  }};
  button.disabled = true;
  await Promise.all(Array.from({{length: 6}}, client));
  button.disabled = false;
}};
</script>
</html>
"""


def page(server: str, about: str, load: float, milliseconds: float, count: int) -> str:
    """Return the HTML. `load` is a share, `milliseconds` the answer's time, `count` the server's requests."""
    return PAGE.format(
        server=escape(server),
        about=escape(about),
        load=100 * load,
        milliseconds=milliseconds,
        count=count,
    )
