// What OHIF is told here, and what Readroom adds: whose images are shown, whether they may be seen still, and that nothing
// is saved. OHIF itself is as it is published.
"use strict";

(() => {
  const PAGES_ORIGIN = "PAGES"; // the web writes it
  const CASE = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
  const ASKED_EVERY_MS = 3000; // a person learns within 5 s that they may not see more
  const TOLD_EVERY_MS = 60000; // that they are at their desk

  const caseOf = query => {
    const id = query.get("case") || "";
    return CASE.test(id) ? id : null;
  };
  const caseId = caseOf(new URLSearchParams(location.search));

  // ── Whether the images may be seen still ───────────────────────────────────────────────────────────────────────────

  const ENDINGS = {
    ended: ["Your session has ended", "Sign in, then open the images again.", "Sign in", "/"],
    locked: ["Your session is locked", "Unlock it. The images are here again then.", "Unlock", "/"],
    unseen: ["You may not see these images any more", "Ask an administrator if you need to.", "To the worklist", "/"],
    none: ["There is no such case", "Open the images from a case.", "To the worklist", "/"],
  };
  let cover = null;
  let note = null;
  let over = false;
  let failures = 0;

  const element = (name, text, css) => {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    made.style.cssText = css;
    return made;
  };

  function hide(word) {
    if (cover && cover.dataset.word === word) return;
    reveal();
    const [title, advice, act, path] = ENDINGS[word];
    cover = element("div", "", "position:fixed;inset:0;z-index:2147483647;background:#101316;color:#d7dce2;"
      + "display:grid;place-content:center;gap:12px;font:16px system-ui,sans-serif;text-align:center");
    cover.dataset.word = word;
    cover.setAttribute("role", "alert");
    const link = element("a", act, "color:#8ab8ff");
    link.href = PAGES_ORIGIN + path;
    cover.append(element("h1", title, "font-size:22px;margin:0"), element("p", advice, "margin:0"), link);
    document.body.append(cover);
    const root = document.getElementById("root");
    if (root) root.style.visibility = "hidden";
    if (word !== "locked") {
      over = true;
      measured = () => 0;
      if (root) root.remove();
    }
  }

  function reveal() {
    if (cover) cover.remove();
    cover = null;
    const root = document.getElementById("root");
    if (root) root.style.visibility = "";
  }

  function tell(text) {
    if (note) note.remove();
    note = text ? element("div", text, "position:fixed;left:50%;top:8px;transform:translateX(-50%);z-index:2147483646;"
      + "background:#322a0c;color:#f2c94c;padding:6px 14px;border-radius:5px;font:14px system-ui,sans-serif") : null;
    if (note) {
      note.setAttribute("role", "status");
      document.body.append(note);
    }
  }

  async function ask() {
    if (over) return;
    if (!caseId) return hide("none");
    let answer;
    try {
      answer = await fetch(`/session/${caseId}`, { cache: "no-store", signal: AbortSignal.timeout(ASKED_EVERY_MS) });
    } catch {
      answer = { status: 503 };
    }
    if (answer.status === 401) {
      hide((await answer.text()).trim() === "locked" ? "locked" : "ended");
    } else if (answer.status === 404) {
      hide("unseen");
    } else if (answer.status === 204) {
      failures = 0;
      reveal();
      tell("");
    } else if (++failures > 1) {
      tell("Readroom does not answer. What you see stays; more images come when it answers again.");
    }
  }

  // ── That a person is at their desk ────────────────────────────────────────────────────────────────────────────────

  let toldAt = 0;
  function here() {
    const now = performance.now();
    if (over || cover || (toldAt && now - toldAt < TOLD_EVERY_MS)) return;
    toldAt = now || 1;
    fetch("/session", { method: "POST" }).catch(() => {});
  }

  // ── Measurements: nothing is saved, so nothing offers to, and leaving with some asks first ────────────────────────

  const SAVES = ["promptSaveReport", "storeMeasurements", "createReport", "downloadReport", "downloadCSVMeasurementsReport",
    "storeSegmentation", "downloadSegmentation", "downloadRTSS", "downloadCSVSegmentationReport"];
  let measured = () => 0;

  const readroom = {
    id: "readroom",
    preRegistration({ servicesManager }) {
      measured = () => servicesManager.services.measurementService.getMeasurements().length;
    },
    onModeEnter({ commandsManager }) {
      for (const context of Object.values(commandsManager.contexts)) {
        for (const name of SAVES) {
          if (context[name]) context[name] = { commandFn: () => tell("Measurements cannot be saved yet.") };
        }
      }
    },
  };

  const style = element("style", ".bg-background.flex.h-9.rounded > .space-x-1 > button:nth-child(-n+2) { display: none }", "");
  document.head.append(style); // CSV, and Create SR, above a list of measurements

  addEventListener("beforeunload", event => {
    if (measured() > 0) event.preventDefault();
  });
  for (const kind of ["pointerdown", "keydown", "wheel"]) addEventListener(kind, here, { capture: true, passive: true });
  addEventListener("DOMContentLoaded", () => {
    ask();
    setInterval(ask, ASKED_EVERY_MS);
  });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && ask());

  // ── OHIF ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  window.config = {
    name: "readroom",
    routerBasename: null,
    extensions: [readroom],
    modes: [],
    customizationService: {},
    showStudyList: false,
    showErrorDetails: "production",
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    measurementTrackingMode: "none",
    disableConfirmationPrompts: true,
    maxNumberOfWebWorkers: 3,
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 10 },
    investigationalUseDialog: { option: "configure", days: 30 },
    defaultDataSourceName: "readroom",
    dataSources: [
      {
        namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
        sourceName: "readroom",
        configuration: {
          friendlyName: "Readroom",
          name: "readroom",
          imageRendering: "wadors",
          thumbnailRendering: "wadors",
          enableStudyLazyLoad: true,
          supportsWildcard: true,
          supportsFuzzyMatching: false,
          supportsReject: false,
          qidoSupportsIncludeField: true,
          omitQuotationForMultipartRequest: true,
          dicomUploadEnabled: false,
          singlepart: "bulkdata,video,pdf",
          bulkDataURI: { enabled: true, relativeResolution: "series" },
          queryLimit: 100,
          // Each case has a root of its own: of the patient it knows what belongs to the case, as access says.
          onConfiguration: (config, { query }) => {
            const root = `/dicomweb/cases/${caseOf(query)}`;
            return { ...config, qidoRoot: root, wadoRoot: root, wadoUriRoot: root };
          },
        },
      },
    ],
    httpErrorHandler: () => ask(),
  };
})();
