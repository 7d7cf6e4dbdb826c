/** The page: brings the connection, the conversations and their views together. Each of those has a file of its own. */

import { connect, socketUrl } from "../turnwire.js";
import { namedIn } from "./location_hash.js";
import { endingWord } from "./status_text.js";
import { Announcer } from "./announcer.js";
import { Chat } from "./conversation_model.js";
import { Composer } from "./composer.js";
import { ConnectionPill } from "./connection_status.js";
import { TOOLS } from "./demo_tools.js";
import { isComposing, setText } from "../shared/dom.js";
import { keepDraft } from "./drafts.js";
import { Drawer } from "./drawer.js";
import { EndFollower } from "./stick_to_bottom.js";
import { rememberRating } from "./message_history.js";
import { keepFocus } from "./focus_restore.js";
import { keepPlace } from "./scroll_anchor.js";
import { ModelPicker } from "./model_picker.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { SignIn } from "./sign_in.js";
import { followTheme } from "./theme.js";
import { Thread } from "./message_list.js";
import { showDemos } from "./welcome.js";
import { Workbench } from "../devtools/workbench.js";

const CHATS_MAX = 20;
const REFRESH_AFTER_MS = 250;

const find = (selector) => document.querySelector(selector);

const signIn = (await SignIn.wanted()) ? new SignIn(find(".sign-in"), () => connection.retryNow()) : null;
const connection = connect({ url: socketUrl(), ...(signIn && { ticket: signIn.ticket }) });
const announcer = new Announcer(find("[data-testid=announcements]"));
const settings = new Settings(find(".settings"));
const picker = new ModelPicker(find(".model-picker"));
const chats = new Map();
let current = null;

const thread = new Thread(find(".thread"), {
  link: () => connection.state,
  stop: (message) => current.stop([message]),
  regenerate: (message) => current.regenerate(message, fieldsFor(message.model ?? picker.value[0])),
  edit: (message, parts) => current.edit(message, parts, fieldsFor(picker.value[0])),
  choose: (message) => current.choose(message),
  spread: (message, spread) => current.spread(message, spread),
  rate: async (message, rating) => {
    try {
      await connection.request("feedback.put", { message: message.id, rating });
    } catch (error) {
      announcer.say(`Not rated: ${error.message}`);
      throw error;
    }
    rememberRating(message, rating);
  },
  runTools: (message) => current.answerTools(message, (results) => fieldsAfterTools(message.model, results)),
  earlier: (chat) => void readEarlier(chat),
});
const end = new EndFollower(find(".scroller"), find(".thread"), find(".to-end"));
const composer = new Composer(find(".composer"), (parts) => send(parts, picker.value.map((model) => fieldsFor(model))), picker);
const sidebar = new Sidebar(find(".sidebar"), connection, {
  open: (id) => (location.hash = id),
  deleted: (id) => {
    letGo(id);
    keepDraft(id, "");
    if (current.id === id) startNew();
  },
  isLive: (id) => (chats.get(id)?.live.size ?? 0) > 0,
});
const drawer = new Drawer(find(".drawer"), find(".drawer-toggle"));
drawer.add("settings", "Settings", find(".settings"));
const workbench = new Workbench(drawer, find(".drawer"), connection, {
  get chat() {
    return current;
  },
  open(id) {
    history.pushState(null, "", `#${id}`);
    openNamed();
  },
});

/** What a start says beside its input: model, parameters, system prompt, tools. */
function fieldsFor(model, demo) {
  const params = settings.paramsFor(model);
  if (demo) params.demo = demo;
  const tools = settings.tools || demo?.tool ? TOOLS : undefined;
  return {
    model,
    ...(settings.system && { system: settings.system }),
    ...(Object.keys(params).length > 0 && { params }),
    ...(tools && { tools, run: (results) => fieldsAfterTools(model, results) }),
  };
}

/** The turn after a tool's answer. The demo model knows nothing, so it is told what to say. */
function fieldsAfterTools(model, results) {
  const said = `The answer came back: **${results.map(({ output }) => output).join("**, **")}**. It was worked out in your browser; the model only asked.`;
  return fieldsFor(model, model === "demo" ? { rate: settings.demo.rate, text: said } : undefined);
}

function send(parts, asked) {
  if (current.missing) startNew();
  current.send(parts, asked);
  announcer.say(asked.length > 1 ? `${asked.length} answers started` : "Answer started");
  end.toEnd();
}

function show(chat) {
  current = chat;
  sidebar.mark(chat.id);
  composer.open(chat.id);
  end.toEnd();
  draw();
  void chat.catchUp();
}

function draw() {
  document.body.dataset.empty = String(current.tree.empty && !current.loading);
  document.body.dataset.new = String(!current.id);
  thread.show(current);
  drawTitle();
  drawLive();
}

async function readEarlier(chat) {
  const button = find(".earlier");
  button.disabled = true;
  try {
    await keepPlace(find(".scroller"), find(".thread"), button.nextElementSibling, () => chat.readEarlier());
  } catch (error) {
    announcer.say(error.message);
  }
  button.disabled = false;
}

function drawTitle() {
  const title = current.missing ? "No such conversation" : (current.info?.title ?? (current.id ? "" : "New conversation"));
  setText(find(".title"), title || "Untitled");
  document.title = current.info?.title ? `${current.info.title} · Turnwire` : "Turnwire";
  document.body.dataset.missing = String(current.missing);
  find(".missing").hidden = !current.missing;
}

function drawLive() {
  const all = [...chats.values(), ...(chats.has(current.id) ? [] : [current])];
  const running = all.reduce((sum, chat) => sum + chat.live.size, 0);
  const stopAll = find(".stop-all");
  stopAll.hidden = running === 0;
  setText(stopAll.querySelector(".stop-words"), running > 1 ? "Stop all" : "Stop");
  setText(stopAll.querySelector(".running-count"), running > 1 ? String(running) : "");
  sidebar.showLive();
}

let refreshing = 0;
function refreshSoon() {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => void sidebar.refresh(), REFRESH_AFTER_MS);
}

function watch(chat) {
  chat.addEventListener("structure", () => chat === current && draw());
  chat.addEventListener("missed", () => chat === current && void chat.catchUp());
  chat.addEventListener("info", () => {
    refreshSoon(); // another device may have begun, renamed or deleted it
    if (chat === current) draw();
  });
  chat.addEventListener("live", ({ detail }) => {
    workbench.saw(chat);
    drawLive();
    if (!detail?.ended) return;
    const { ending } = detail.ended;
    announcer.say(ending.error ? `An answer failed: ${ending.error.message}` : `An answer ${endingWord(ending)}`);
    refreshSoon();
  });
  chat.addEventListener("named", () => {
    chats.set(chat.id, chat);
    if (chat === current) {
      history.replaceState(null, "", `#${chat.id}`);
      composer.named(chat.id);
    }
    sidebar.mark(current.id);
    refreshSoon();
    void connection.request("conversation.get", { conversation: chat.id }).then((info) => {
      chat.info = { ...info, ...chat.info };
      if (chat === current) drawTitle();
    }, () => {});
  });
  return chat;
}

function startNew() {
  if (location.hash) history.pushState(null, "", location.pathname + location.search);
  show(watch(new Chat(connection)));
  composer.focus();
}

/** Shows what the address names. */
function openNamed() {
  const id = namedIn(location.hash);
  showSidebar(false);
  if (!id) {
    if (!current || current.id) show(watch(new Chat(connection)));
    return;
  }
  let chat = chats.get(id);
  if (!chat) {
    chat = watch(new Chat(connection, id));
    chats.set(id, chat);
    for (const [key, other] of chats) if (chats.size > CHATS_MAX && other.live.size === 0 && other !== chat) letGo(key);
    chat.loading = true;
    chat.load().catch((error) => {
      chat.missing = error.code === "not_found" || error.code === "invalid_request";
      chats.delete(id);
    }).finally(() => {
      chat.loading = false;
      if (chat === current) draw();
    });
  }
  show(chat);
}

function letGo(id) {
  chats.get(id)?.leave();
  chats.delete(id);
}

function showSidebar(shown) {
  document.body.dataset.sidebar = shown ? "open" : "closed";
  find(".sidebar-toggle").setAttribute("aria-expanded", String(shown));
}

/** The newest answer that still streams, here first. */
function stopNewest() {
  const newest = [...current.live.values()].at(-1);
  if (newest) void current.stop([newest]).catch(() => {});
}

async function listModels(ready) {
  try {
    const { models } = await connection.request("models.list");
    picker.show(models, ready.default_model);
  } catch (error) {
    console.warn("models.list:", error);
  }
}

/** Says who is signed in. What one user left on the page is no business of the next one. */
function showUser(user) {
  const shown = find(".user-name");
  if (shown.textContent && shown.textContent !== user) signIn.begin();
  setText(shown, user);
  shown.title = user;
  find(".user").hidden = false;
}

connection.addEventListener("state", ({ detail }) => {
  document.body.dataset.link = detail.state;
  if (detail.state !== "live") return;
  if (signIn) showUser(detail.ready.user);
  void listModels(detail.ready);
  void sidebar.refresh();
});
new ConnectionPill(find(".connection"), connection);
followTheme(find(".theme"));
keepFocus(find("#prompt"));
picker.addEventListener("change", () => {
  composer.update();
  find(".demo-fields").hidden = !picker.value.includes("demo");
});
showDemos(find(".demos"), (text, demo) => send([{ kind: "text", text }], [fieldsFor("demo", demo)]));
find(".stop-all").addEventListener("click", () => {
  const nodes = [...chats.values(), current].flatMap((chat) => [...chat.live.values()]);
  void current.stop([...new Set(nodes)]).catch(() => {});
});
for (const button of document.querySelectorAll(".new-conversation")) {
  button.addEventListener("click", () => {
    showSidebar(false);
    startNew();
  });
}
find(".sign-out").addEventListener("click", () => signIn.signOut());
find(".sidebar-toggle").addEventListener("click", () => showSidebar(document.body.dataset.sidebar !== "open"));
find(".drawer-toggle").addEventListener("click", () => showSidebar(false));
find(".shade").addEventListener("click", () => (document.body.dataset.sidebar === "open" ? showSidebar(false) : drawer.close()));
document.addEventListener("keydown", (event) => {
  if (isComposing(event) || document.querySelector(":modal")) return;
  if (event.key === "Escape" && !event.defaultPrevented) {
    if (document.querySelector(":popover-open")) return; // it closes the menu
    if (document.body.dataset.sidebar === "open" && find(".shade").checkVisibility()) showSidebar(false);
    else stopNewest();
  } else if (event.key?.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    showSidebar(true);
    sidebar.focusSearch();
  }
});
addEventListener("hashchange", openNamed);
addEventListener("popstate", openNamed);
openNamed();
