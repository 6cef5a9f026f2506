// The server draws the page; this only fetches it anew, so that what is read does not jump and nothing flickers.
"use strict";
const PERIOD = 3000;
async function renew() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const open = [...document.querySelectorAll("details[open]")].map((each) => each.id);
    for (const id of ["head", "body"]) {
      const now = document.getElementById(id), next = fresh.getElementById(id);
      for (const each of open) next.querySelector("#" + each)?.setAttribute("open", "");
      if (now.innerHTML !== next.innerHTML && !now.contains(document.activeElement)) now.replaceChildren(...next.childNodes);
    }
    document.getElementById("stale").hidden = true;
  } catch {
    document.getElementById("stale").hidden = false;
  }
  setTimeout(renew, PERIOD);
}
setTimeout(renew, PERIOD);
