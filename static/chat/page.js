/** The entry point of the page. It opens the connection to the gateway, and creates the conversations and the views. */

import { Workbench } from "../devtools/workbench.js";
import { isComposing, setText } from "../shared/dom.js";
import { listenForEscape, onEscape } from "../shared/escape_stack.js";
import { getPref, setPref } from "../shared/local_prefs.js";
import { guardPresses } from "../shared/press_guard.js";
import { connect, socketUrl } from "../turnwire.js";
import { Announcer } from "./announcer.js";
import { Composer } from "./composer.js";
import { ConnectionStatus } from "./connection_status.js";
import { ConversationModel } from "./conversation_model.js";
import { REFUSED, TOOLS } from "./demo_tools.js";
import { setDraft } from "./drafts.js";
import { Drawer } from "./drawer.js";
import { restoreFocus } from "./focus_restore.js";
import { conversationIdFromHash } from "./location_hash.js";
import { loadMarkdown } from "./markdown_loader.js";
import { MessageList } from "./message_list.js";
import { ModelPicker } from "./model_picker.js";
import { keptPrompts } from "./outbox.js";
import { withScrollAnchor } from "./scroll_anchor.js";
import { followServiceWorker, registerServiceWorker } from "./service_worker.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { SignIn } from "./sign_in.js";
import { initSkipLink } from "./skip_link.js";
import { endingText, isOffline } from "./status_text.js";
import { StickToBottom } from "./stick_to_bottom.js";
import { SystemPrompt } from "./system_prompt.js";
import { initTheme } from "./theme.js";
import { forgetPermissions, isAlwaysAllowed } from "./tool_permissions.js";
import { renderDemos } from "./welcome.js";

/** If more conversations than this are in memory, those without a running turn are closed, oldest first. */
const CONVERSATIONS_MAX = 20;
/** A longer prompt isn't estimated: it doesn't fit into a frame. */
const ESTIMATE_CHARS = 20_000;
const REFRESH_AFTER_MS = 250;
/** The name of the preference: see busy_choice.js. */
const ON_BUSY = "on-busy";
const NOT_FOUND = "This conversation doesn't exist or was deleted. Open another one on the left, or send a prompt to start a new one.";

const find = (selector) => document.querySelector(selector);

const signIn = new SignIn(find(".sign-in"), () => connection.retryNow());
const connection = connect({ url: socketUrl(), ticket: signIn.ticket });
const announcer = new Announcer(find("[data-testid=announcements]"));
const settings = new Settings(find(".settings"));
const systemPrompt = new SystemPrompt(find("[name=system]"), find("[data-testid=system-note]"), find(".system-line"),
  (conversation, system) => connection.request("conversation.update", { conversation: conversation.id, system }));
const modelPicker = new ModelPicker(find(".model-picker"));
/** The gateway's models, by id. @type {Map<string, object>} */
let models = new Map();
/** @type {Map<string, ConversationModel>} by id, oldest first */
const conversations = new Map();
/** The conversation that is shown. @type {ConversationModel} */
let current = null;

const messageList = new MessageList(find(".message-list"), {
  connectionState: () => connection.state,
  stop: (answer) => current.stop([answer]),
  regenerate: (answer) => current.regenerate(answer, startFields(answer.model ?? selectedModels()[0])),
  edit: (prompt, parts) => current.edit(prompt, parts, startFields(selectedModels()[0])),
  select: (message) => current.select(message),
  setSideBySide: (parent, sideBySide) => current.setSideBySide(parent, sideBySide),
  rate: async (answer, rating) => {
    try {
      await connection.request("feedback.put", { message: answer.id, rating });
    } catch (error) {
      announcer.announce(`Rating failed: ${error.message}`);
      throw error;
    }
    answer.rating = rating;
  },
  mayRunTools,
  continueAnswer,
  handOver,
  runTools: (answer, refused) => current.runToolCalls(answer, (results) => toolFollowUpFields(answer.model, results), refused),
  loadEarlier: (conversation) => void loadEarlier(conversation),
});
const stickToBottom = new StickToBottom(find(".scroller"), find(".message-list"), find(".scroll-to-end"));
const composer = new Composer(find(".composer"), (parts) => send(parts, selectedModels().map((model) => startFields(model)), isAskingWhileBusy() ? onBusy() : null), modelPicker);
composer.onUpdate = () => {
  if (costLine || (connection.state.state === "live" && find("#prompt").value.trim())) withCostLine((line) => line.onChange());
};
composer.modelsWith = (feature) => [...models.values()].filter((model) => model.available !== false && model.features?.includes(feature)).map((model) => model.name ?? model.id);
composer.maySend = () => {
  if (!isAskingWhileBusy() || onBusy()) return true;
  const asked = current;
  loadBusyChoice().then((choice) => choice.ask(() => current === asked && composer.submit()), () => {
    unaskedOnBusy = "queue"; // the menu can't be loaded
    composer.submit();
  });
  return false;
};
const sidebar = new Sidebar(find(".sidebar"), connection, {
  onDeleted: (id) => {
    closeConversation(id);
    setDraft(id, "");
    if (current.id === id) openNew();
  },
  isStreaming: (id) => (conversations.get(id)?.running.size ?? 0) > 0,
  leafOf: (id) => conversations.get(id)?.tree.leaf().id ?? null,
  openFound: (id, message, query) => void openFound(id, message, query),
});
const drawer = new Drawer(find(".drawer"), find(".drawer-toggle"));
drawer.add("settings", "Settings", find(".settings"));
const workbench = new Workbench(drawer, find(".drawer"), connection, {
  get conversation() {
    return current;
  },
  open(id) {
    history.pushState(null, "", `#${id}`);
    openFromUrl();
  },
});

/** Returns the ids of the selected models. Undefined: the gateway's default. @returns {(string | undefined)[]} */
function selectedModels() {
  const ids = modelPicker.value;
  return ids.length > 0 ? ids : [undefined];
}

/**
 * Returns the fields of `turn.start` except its input, and `toolFollowUp`: see `ConversationModel.send`.
 * @param {string} [model]
 * @param {object} [demo] replaces `params.demo`
 */
function startFields(model, demo) {
  const params = settings.paramsFor(model);
  if (demo) params.demo = demo;
  const tools = settings.tools || demo?.tool ? TOOLS : undefined;
  return {
    ...(model && { model }),
    ...(Object.keys(params).length > 0 && { params }),
    ...(tools && { tools, toolFollowUp: (results) => toolFollowUpFields(model, results) }),
  };
}

/** Returns the fields of the turn after a tool result. The demo model can't read the result, so its answer is preset. */
function toolFollowUpFields(model, results) {
  const outputs = results.map(({ output }) => output).filter((output) => output !== REFUSED);
  const text = outputs.length > 0 ? `The result is **${outputs.join("**, **")}**. Your browser ran the tool; the model only requested it.` : "You refused the call, so no tool ran.";
  return startFields(model, model === "demo" ? { rate: settings.demo.rate, text } : undefined);
}

/** Lets the model go on from the end of an answer. A model that can't is asked to. */
function continueAnswer(answer) {
  const model = models.has(answer.model) ? answer.model : selectedModels()[0];
  if (models.get(model)?.continues) current.continueAnswer(answer, startFields(model));
  else current.send([{ kind: "text", text: "Continue exactly where you stopped." }], [startFields(model)], answer);
  announcer.announce("Answer started");
}

/** Goes on in a new conversation with the last exchanges of this one, or a summary. @param {"recent" | "summary"} mode */
async function handOver(answer, mode) {
  const from = current;
  const model = models.has(answer.model) ? answer.model : selectedModels()[0];
  if (mode === "summary") announcer.announce("The conversation is being summarized");
  try {
    const { handOverText } = await import("./hand_over.js");
    const text = await handOverText(answer, mode, models.get(model)?.context_window ?? null, (fields) => connection.start({ ...(model && { model }), ...fields }));
    if (current !== from) return; // the user went elsewhere meanwhile
    const images = answer.parent.parts.filter(({ kind }) => kind !== "text");
    openNew();
    current.newSystem = from.info?.system ?? current.newSystem;
    current.continuedFrom = from.id;
    send([...images, { kind: "text", text }], [startFields(model)]);
  } catch (error) {
    composer.showNote(`The new conversation couldn't be started: ${error.message}`);
  }
}

function mayRunTools(calls) {
  return !settings.asksTools || calls.every(({ name }) => isAlwaysAllowed(name));
}

let costLine = null;
/** Calls the line of costs, which is loaded when it is first needed. @param {(line: import("./cost_line.js").CostLine) => void} call */
function withCostLine(call) {
  costLine ??= import("./cost_line.js").then(({ CostLine }) => new CostLine(connection, find(".usage-line"), find(".estimate"), estimateFields, () => current.id));
  costLine.then(call, () => (costLine = null));
}

/** Returns the fields of the next start, to estimate it; null if there is nothing to estimate, or no network. */
function estimateFields() {
  const { parts } = composer;
  const [model, ...others] = selectedModels();
  const isText = parts.every(({ kind }) => kind === "text") && find("#prompt").value.trim() !== "";
  const chars = parts.reduce((sum, { text }) => sum + (text?.length ?? 0), 0);
  if (!isText || others.length > 0 || chars > ESTIMATE_CHARS || current.notFound || connection.state.state !== "live" || isOffline(connection.state)) return null;
  const { toolFollowUp: _, ...fields } = startFields(model);
  const parent = current.anchor().id;
  const place = current.id ? { conversation: current.id, ...(parent && { parent }) } : current.newSystem?.trim() ? { system: current.newSystem.trim() } : {};
  return { ...fields, ...place, input: parts };
}

/** What a prompt does while an answer streams, if the user can't be asked. @type {string | null} */
let unaskedOnBusy = null;
/** Returns what a prompt does while an answer streams; null if that isn't chosen yet. */
function onBusy() {
  return getPref(ON_BUSY) ?? unaskedOnBusy;
}

let busyChoice = null;
/** Returns a promise of the choice of what a prompt does while an answer streams. */
function loadBusyChoice() {
  busyChoice ??= import("./busy_choice.js").then(({ BusyChoice }) => new BusyChoice(find(".composer-bar"), find("#prompt")));
  busyChoice.catch(() => (busyChoice = null));
  return busyChoice;
}

/** Returns whether a prompt for one model would be sent while an answer streams that it follows. */
function isAskingWhileBusy() {
  return current.tree.isBusy && selectedModels().length === 1;
}

/** @param {string | null} [onBusy] what to do if an answer streams; default: start beside it */
function send(parts, requests, onBusy = null) {
  if (current.notFound) openNew();
  current.send(parts, requests, undefined, onBusy && onBusy !== "parallel" ? onBusy : undefined);
  announcer.announce(requests.length > 1 ? `${requests.length} answers started` : "Answer started");
  stickToBottom.scrollToEnd();
}

function show(conversation) {
  current = conversation;
  sidebar.setCurrent(conversation.id);
  composer.open(conversation.id);
  systemPrompt.open(conversation);
  stickToBottom.scrollToEnd();
  render();
  if (costLine || conversation.id) updateUsage();
  void conversation.catchUp();
}

function updateUsage() {
  if (connection.state.state === "live") withCostLine((line) => line.onUsage());
}

function render() {
  document.body.dataset.empty = String(current.tree.isEmpty && !current.loading);
  document.body.dataset.new = String(!current.id);
  messageList.update(current);
  systemPrompt.update();
  renderTitle();
  renderActivity();
}

async function loadEarlier(conversation) {
  const button = find(".earlier");
  button.disabled = true;
  try {
    await withScrollAnchor(find(".scroller"), find(".message-list"), button.nextElementSibling, () => conversation.loadEarlier());
  } catch (error) {
    announcer.announce(error.message);
  }
  button.disabled = false;
}

function renderTitle() {
  const title = current.notFound ? "Conversation not found" : (current.info?.title ?? (current.id ? "" : "New conversation"));
  setText(find(".title"), title || "Untitled");
  document.title = current.info?.title ? `${current.info.title} · Turnwire` : "Turnwire";
  const origin = current.continuedFrom ?? (current.id && getPref(`continued-from ${current.id}`));
  find(".origin-line").hidden = !origin;
  if (origin) find(".origin-line").href = `#${origin}`;
  const problem = current.notFound ? NOT_FOUND : current.loadError && `This conversation couldn't be loaded. ${current.loadError} Reload the page to try again.`;
  document.body.dataset.unavailable = String(Boolean(problem));
  setText(find(".unavailable"), problem ?? "");
  find(".unavailable").hidden = !problem;
}

function renderActivity() {
  const all = [...conversations.values(), ...(conversations.has(current.id) ? [] : [current])];
  const running = all.reduce((sum, conversation) => sum + conversation.running.size, 0);
  const stopAll = find(".stop-all");
  stopAll.hidden = running === 0;
  setText(stopAll.querySelector(".stop-label"), running > 1 ? "Stop all" : "Stop");
  setText(stopAll.querySelector(".running-count"), running > 1 ? String(running) : "");
  sidebar.updateActivity();
  renderBusyChoice();
}

function renderBusyChoice() {
  const isBusy = isAskingWhileBusy();
  if (isBusy || busyChoice) loadBusyChoice().then((choice) => choice.show(isAskingWhileBusy()), () => {});
}

let refreshTimer = 0;
function refreshSoon() {
  clearTimeout(refreshTimer);
  refreshTimer = setTimeout(() => void sidebar.refresh(), REFRESH_AFTER_MS);
}

/** Creates a conversation's model and follows its events. @param {string | null} [id] null: a new conversation */
function createConversation(id = null) {
  const conversation = new ConversationModel(connection, id);
  conversation.mayRunTools = mayRunTools;
  conversation.addEventListener("messages", () => conversation === current && render());
  conversation.addEventListener("stale", () => conversation === current && void conversation.catchUp());
  conversation.addEventListener("info", () => {
    refreshSoon(); // another device may have started, renamed or deleted it
    if (conversation === current) render();
  });
  conversation.addEventListener("turns", ({ detail }) => {
    workbench.track(conversation);
    renderActivity();
    if (!detail?.ended) return;
    if (conversation === current) updateUsage();
    const { ending } = detail.ended;
    announcer.announce(ending.error ? `Answer failed: ${ending.error.message}` : `Answer ${endingText(ending)}`);
    if (ending.finish_reason === "tool_calls" && !mayRunTools(detail.ended.toolCalls)) announcer.announce("Approve or refuse the tool call");
    refreshSoon();
  });
  conversation.addEventListener("not-kept", () => {
    if (connection.state.state !== "live") composer.showNote("This tab can't keep the whole prompt. Don't reload the page until it is sent.");
  });
  conversation.addEventListener("first-start", () => systemPrompt.onFirstStart());
  conversation.addEventListener("created", () => {
    conversations.set(conversation.id, conversation);
    systemPrompt.onCreated(conversation);
    if (conversation.continuedFrom) setPref(`continued-from ${conversation.id}`, conversation.continuedFrom);
    if (conversation === current) {
      history.replaceState(null, "", `#${conversation.id}`);
      composer.setConversationId(conversation.id);
    }
    sidebar.setCurrent(current.id);
    refreshSoon();
    void connection.request("conversation.get", { conversation: conversation.id }).then((info) => {
      conversation.info = { ...info, ...conversation.info };
      if (conversation === current) renderTitle();
    }, () => {});
  });
  return conversation;
}

function openNew() {
  if (location.hash) history.pushState(null, "", location.pathname + location.search);
  show(createConversation());
  composer.focus();
}

/** Shows the conversation that the URL names. */
function openFromUrl() {
  const id = conversationIdFromHash(location.hash);
  setSidebarOpen(false);
  if (!id) {
    if (!current || current.id) show(createConversation());
    return;
  }
  show(conversationById(id));
}

/** Opens a conversation at a message that a search has found. */
async function openFound(id, message, query) {
  const { showFoundMessage, clearMarks } = await import("./find_message.js");
  clearMarks();
  const conversation = conversationById(id);
  await conversation.loaded;
  await new Promise((resolve) => setTimeout(resolve)); // the link may be followed after this click
  if (conversation !== current || conversation.notFound) return;
  stickToBottom.hold();
  await showFoundMessage(conversation, message, query, (node) => messageList.nodeOf(node));
}

/** Returns a conversation; begins to load it if it isn't in memory. */
function conversationById(id) {
  if (conversations.has(id)) return conversations.get(id);
  const conversation = createConversation(id);
  conversations.set(id, conversation);
  for (const [key, other] of conversations) {
    if (conversations.size > CONVERSATIONS_MAX && other.running.size === 0 && other !== conversation) closeConversation(key);
  }
  conversation.loading = true;
  conversation.loaded = conversation.load().catch((error) => {
    conversation.notFound = error.code === "not_found" || error.code === "invalid_request";
    conversation.loadError = error.message;
    conversations.delete(id);
  }).finally(() => {
    conversation.loading = false;
    if (conversation === current) render();
  });
  return conversation;
}

/** Sends the prompts that the gateway hadn't accepted before a reload. */
function resendKept() {
  const prompts = keptPrompts();
  if (prompts.length === 0) return;
  const byGroup = new Map();
  const open = ({ conversation: id, group }) => {
    if (id) return conversationById(id);
    if (!byGroup.has(group)) byGroup.set(group, byGroup.size === 0 && !current.id ? current : createConversation());
    return byGroup.get(group);
  };
  const show = (id) => {
    if (current.id) return;
    history.replaceState(null, "", `#${id}`);
    openFromUrl();
  };
  import("./resend.js").then(({ resend }) => resend(prompts, connection, open, show, (...given) => composer.giveBack(...given)),
    () => connection.addEventListener("ready", resendKept, { once: true })); // it can't be loaded without a network
}

function closeConversation(id) {
  conversations.get(id)?.close();
  conversations.delete(id);
}

function setSidebarOpen(open) {
  document.body.dataset.sidebar = open ? "open" : "closed";
  find(".sidebar-toggle").setAttribute("aria-expanded", String(open));
}

/** Stops the newest streaming answer of the shown conversation. */
function stopNewest() {
  const newest = [...current.running.values()].at(-1);
  if (newest) void current.stop([newest]).catch(() => {});
}

async function loadModels(defaultModel) {
  try {
    const { models: list } = await connection.request("models.list");
    models = new Map(list.map((model) => [model.id, model]));
    modelPicker.setModels(list, defaultModel);
  } catch (error) {
    console.warn("models.list:", error);
  }
}

function showUser(user) {
  const name = find(".user-name");
  setText(name, user);
  name.title = user;
  find(".user").hidden = false;
}

connection.addEventListener("ready", ({ detail }) => {
  if (!signIn.isOtherUser(detail.user)) return;
  connection.close(); // nothing that the previous user has left unsent is sent for this one
  signIn.resetPage();
});
connection.addEventListener("state", ({ detail }) => {
  document.body.dataset.connection = detail.state;
  if (detail.state !== "live") return;
  if (signIn.required) showUser(detail.ready.user);
  loadMarkdown();
  void registerServiceWorker();
  void loadModels(detail.ready.default_model);
  void sidebar.follow();
  if (current?.id) updateUsage();
});
new ConnectionStatus(find(".connection"), connection, find(".header-state"));
followServiceWorker();
initTheme(find(".theme"));
initSkipLink(find(".skip-link"), find(".scroller"));
restoreFocus(find("#prompt"));
modelPicker.addEventListener("change", () => {
  composer.update();
  renderBusyChoice();
  find(".demo-fields").hidden = !modelPicker.value.includes("demo");
});
renderDemos(find(".demos"), (text, demo) => send([{ kind: "text", text }], [startFields("demo", demo)]));
find(".stop-all").addEventListener("click", () => {
  const answers = [...conversations.values(), current].flatMap((conversation) => [...conversation.running.values()]);
  void current.stop([...new Set(answers)]).catch(() => {});
});
for (const button of document.querySelectorAll(".new-conversation")) {
  button.addEventListener("click", () => {
    setSidebarOpen(false);
    openNew();
  });
}
find(".sign-out").addEventListener("click", () => signIn.signOut());
find("[name=ask_tools]").addEventListener("change", ({ target }) => target.checked && forgetPermissions());
find(".system-line").addEventListener("click", () => {
  drawer.open("settings");
  find("[name=system]").focus();
});
find(".sidebar-toggle").addEventListener("click", () => setSidebarOpen(document.body.dataset.sidebar !== "open"));
onEscape(find(".sidebar"), () => {
  setSidebarOpen(false);
  find(".sidebar-toggle").focus();
}, () => document.body.dataset.sidebar === "open" && find(".backdrop").checkVisibility());
find(".drawer-toggle").addEventListener("click", () => setSidebarOpen(false));
find(".backdrop").addEventListener("click", () => (document.body.dataset.sidebar === "open" ? setSidebarOpen(false) : drawer.close()));
listenForEscape(stopNewest);
guardPresses();
document.addEventListener("keydown", (event) => {
  if (isComposing(event) || document.querySelector(":modal")) return;
  const key = event.key?.toLowerCase();
  const hasControl = event.ctrlKey || event.metaKey;
  if (key === "k" && hasControl) {
    event.preventDefault();
    setSidebarOpen(true);
    sidebar.focusSearch();
  } else if (key === "o" && hasControl && event.shiftKey) {
    event.preventDefault();
    setSidebarOpen(false);
    openNew();
  } else if (key === "?" && !hasControl && !event.target.closest?.("input, textarea, select, [contenteditable]")) {
    event.preventDefault();
    void import("./shortcuts.js").then(({ openShortcuts }) => openShortcuts());
  }
});
addEventListener("hashchange", openFromUrl);
addEventListener("popstate", openFromUrl);
openFromUrl();
resendKept();
