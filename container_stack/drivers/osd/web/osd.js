// SPDX-License-Identifier: Apache-2.0
// The page of the Open Storage daemon. What tenants named only ever becomes text.
"use strict";

const EVERY = 5000, PAGE = 500, MOST = 2000;
const STATES = ["", "pending", "available", "attached", "detached", "detaching", "error", "deleted"];
const NODES = { 2: "OK", 3: "offline", 5: "not in quorum", 9: "degraded" };
const SEVERITIES = { 1: "alarm", 2: "warning", 3: "notice" };
const SVG = "http://www.w3.org/2000/svg";

// Over TCP the page is at /cluster/, and drivers are beside it. On the cluster's own socket there
// are none, so that nothing can be changed there.
const overTCP = location.pathname === "/cluster/";
// In no storage, cookie or address: it goes with the page.
let token = "";
let known = new Map();
let chosen = "";

const at = (id) => document.getElementById(id);

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function drawn(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

function row(cells) {
  const made = element("tr");
  for (const cell of cells) {
    const place = element("td");
    place.append(cell); // a node, or a text
    made.append(place);
  }
  return made;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let n = 0;
  while (count >= 1024 && n < units.length - 1) { count /= 1024; n += 1; }
  return `${n && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[n]}`;
}

const moment = (seconds) => new Date(seconds * 1000).toLocaleString("sv");

async function ask(path, method = "GET", body = undefined) {
  const answer = await fetch(path, {
    method,
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    body: body && JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
  });
  const text = await answer.text();
  if (!answer.ok) throw Object.assign(new Error(text.slice(0, 300)), { status: answer.status });
  return JSON.parse(text);
}

async function volumesOf(driver) {
  const found = [];
  for (let after = ""; found.length < MOST;) {
    const query = new URLSearchParams({ After: after, Limit: PAGE });
    const part = await ask(`v1/drivers/${encodeURIComponent(driver)}/volumes?${query}`);
    found.push(...part.map((each) => ({ ...each, driver })));
    if (part.length < PAGE) return found;
    after = part.at(-1).locator.name;
  }
  at("more").textContent = `Of ${driver} only the first ${found.length} are shown.`;
  at("more").hidden = false;
  return found;
}

function state(volume) {
  const word = volume.error || volume.state === 6 ? "error"
    : volume.attach_path.length ? "mounted" : STATES[volume.state];
  const made = element("span", volume.source.parent ? `${word}, snapshot` : word);
  if (word === "error") { made.className = "error"; made.title = volume.error; }
  return made;
}

function used(volume) {
  const made = element("span");
  const share = Math.min(volume.usage / volume.spec.size, 1);
  made.append(element("meter", "", { value: share, high: 0.85 }), bytes(volume.usage));
  return made;
}

const labels = (volume) => Object.entries(volume.locator.volume_labels)
  .map(([name, value]) => `${name}=${value}`).join(", ");

function showVolumes() {
  const wanted = at("filter").value.toLowerCase();
  const rows = [];
  for (const volume of known.values()) {
    const said = `${volume.locator.name} ${volume.driver} ${labels(volume)}`;
    if (!said.toLowerCase().includes(wanted)) continue;
    const name = element("button", volume.locator.name, { class: "name", type: "button" });
    name.addEventListener("click", () => choose(volume.id));
    const made = row([name, volume.driver, bytes(volume.spec.size), used(volume), state(volume),
      volume.attached_on, labels(volume)]);
    if (volume.id === chosen) made.className = "chosen";
    rows.push(made);
  }
  at("volumes").replaceChildren(...rows);
}

function showNodes(found) {
  at("where").textContent = found.id ? `cluster ${found.id}, node ${found.node_id}` : found.node_id;
  at("nodes").replaceChildren(...found.nodes.map((node) => row([
    node.Id, NODES[node.Status] || String(node.Status),
    node.MemTotal ? `${node.Cpu.toFixed(0)} %` : "",
    node.MemTotal ? `${bytes(node.MemUsed)} of ${bytes(node.MemTotal)}` : "", node.MgmtIp])));
}

const nameOf = (id) => known.get(id)?.locator.name ?? id;

function showAlerts(found) {
  const rows = (found.alert || []).map((each) => element("li",
    `${moment(each.timestamp.seconds)} ${SEVERITIES[each.severity]}: ${nameOf(each.resource_id)}: ${each.message}`,
    { class: each.severity === 1 ? "error" : "" }));
  at("alerts").replaceChildren(...(rows.length ? rows : [element("li", "None.")]));
}

function showEvents(found) {
  at("events").replaceChildren(...found.map((each) => row([
    element("span", moment(each.timestamp.seconds)), each.kind, nameOf(each.volume_id),
    element("span", each.node_id), each.text])));
}

// Usage over time, with the volume's size as the top if it isn't far away.
function chart(samples, size, hours) {
  const [width, height, left, bottom] = [600, 160, 70, 20];
  const image = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  image.append(drawn("title", {}, "Usage over time"));
  const most = Math.max(...samples.map(([, count]) => count), 1);
  const top = most > size / 4 || !samples.length ? Math.max(size, most) : most * 1.2;
  const to = Date.now() / 1000, from = to - hours * 3600;
  const x = (when) => left + (width - left) * Math.max(when - from, 0) / (to - from);
  const y = (count) => (height - bottom) - (height - bottom - 10) * count / top;
  for (const share of [0, 0.5, 1]) {
    const line = y(top * share);
    image.append(drawn("line", { x1: left, x2: width, y1: line, y2: line }),
      drawn("text", { x: left - 6, y: line + 4, "text-anchor": "end" }, bytes(top * share)));
  }
  image.append(drawn("text", { x: left, y: height - 4 }, moment(from)),
    drawn("text", { x: width, y: height - 4, "text-anchor": "end" }, moment(to)));
  if (samples.length) {
    // A volume that isn't used isn't measured: it takes what it took.
    const points = [...samples, [to, samples.at(-1)[1]]]
      .map(([when, count]) => `${x(when).toFixed(1)},${y(count).toFixed(1)}`);
    image.append(
      drawn("path", { class: "area", d: `M${x(samples[0][0]).toFixed(1)},${y(0)}L${points.join("L")}L${width},${y(0)}Z` }),
      drawn("path", { class: "line", d: `M${points.join("L")}` }));
  } else {
    image.append(drawn("text", { x: width / 2, y: height / 2 - 14 }, "not measured yet"));
  }
  return image;
}

async function choose(id) {
  chosen = id;
  showVolumes();
  showActions();
  try {
    await showDetail();
  } catch (error) {
    tell(error);
  }
}

function tell(error) {
  at("told").textContent = error.status === 401 ? "A token is needed."
    : error.status ? error.message : "The daemon doesn't answer.";
}

async function showDetail() {
  const volume = known.get(chosen);
  at("detail").hidden = !volume;
  if (!volume) { chosen = ""; return; }
  at("name").textContent = `${volume.driver}/${volume.locator.name}`;
  at("about").textContent = [volume.id, `made ${moment(volume.ctime.seconds)}`,
    volume.format_name, volume.readonly ? "read-only" : "", volume.device_path,
    ...volume.attach_path, volume.source.parent && `of ${nameOf(volume.source.parent)}`,
    volume.error].filter(Boolean).join(" · ");
  const hours = Number(at("hours").value);
  const path = `v1/drivers/${encodeURIComponent(volume.driver)}/volumes/${volume.id}/samples?Hours=${hours}`;
  const samples = await ask(path);
  // Another may have been chosen meanwhile.
  if (chosen === volume.id) at("chart").replaceChildren(chart(samples, volume.spec.size, hours));
}

// What a token allows --------------------------------------------------------------------------

function action(text, field, perform) {
  const form = element("form");
  const button = element("button", text, { type: "submit" });
  form.append(...(field ? [field, " "] : []), button);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    button.disabled = true;
    attempt(perform).finally(() => { button.disabled = false; });
  });
  return form;
}

function refused(answer) {
  const inner = answer.volume_response || answer.volume_create_response?.volume_response || answer;
  if (inner.error) throw new Error(inner.error);
}

function showActions() {
  const volume = known.get(chosen);
  if (!overTCP || !token || !volume) { at("actions").replaceChildren(); return; }
  const driver = `../driver/${encodeURIComponent(volume.driver)}/v1`;
  const one = `${driver}/osd-volumes/${volume.id}`;
  const name = element("input", "", { placeholder: "snapshot's name", "aria-label": "snapshot's name" });
  const size = element("input", "", { type: "number", min: 1, required: "", "aria-label": "MiB", placeholder: "MiB" });
  size.value = Math.ceil(volume.spec.size / 2 ** 20);
  const sure = element("input", "", { placeholder: "its name, to be sure", "aria-label": "its name, to be sure" });
  at("actions").replaceChildren(
    action("Take snapshot", name, () => ask(`${driver}/osd-snapshot`, "POST",
      { id: volume.id, locator: { name: name.value }, readonly: true })),
    action("Grow", size, async () => {
      const wanted = Number(size.value) * 2 ** 20;
      const answer = await ask(one, "PUT", { spec: { size: wanted } });
      refused(answer);
      volume.spec.size = wanted;
      return answer;
    }),
    action("Delete", sure, () => {
      if (sure.value !== volume.locator.name) throw new Error("That isn't its name.");
      return ask(one, "DELETE");
    }));
}

async function attempt(perform) {
  let said = "";
  try {
    refused(await perform());
  } catch (error) {
    said = error.message;
  }
  // Before anything else is seen to have changed: who goes on typing then loses nothing.
  if (!said) showActions();
  await refresh();
  if (said) at("told").textContent = said;
}

// All of it, again and again -------------------------------------------------------------------

async function refresh() {
  try {
    const [nodes, drivers, alerts, events] = await Promise.all(
      ["v1/nodes", "v1/drivers", "v1/alerts", "v1/events?Limit=50"].map((path) => ask(path)));
    at("more").hidden = true;
    const found = await Promise.all(drivers.map((each) => volumesOf(each.name)));
    known = new Map(found.flat().map((each) => [each.id, each]));
    showNodes(nodes);
    showAlerts(alerts);
    showEvents(events);
    showVolumes();
    await showDetail();
    at("told").textContent = "";
  } catch (error) {
    tell(error);
  }
}

async function enter(event) {
  event.preventDefault();
  const given = at("token").value.trim();
  at("token").value = "";
  token = given;
  try {
    // Whoever may look without a token mustn't take a wrong one for a right one.
    await ask("v1/openapi.json");
    at("enter").hidden = true;
  } catch (error) {
    token = "";
    at("told").textContent = error.status === 401 ? "That isn't the token." : error.message;
    return;
  }
  await refresh();
  showActions();
}

async function live() {
  if (!document.hidden) await refresh();
  setTimeout(live, EVERY);
}

at("enter").hidden = !overTCP;
at("enter").addEventListener("submit", enter);
at("filter").addEventListener("input", showVolumes);
at("hours").addEventListener("change", () => choose(chosen));
live();
