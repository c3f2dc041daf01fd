// Questions that are answered into one place wait for each other, so that the last press has the last word there.
// `turns` names the turn of each of the page's events by its number.
(turns) => {
  const ask = window.fetch;
  const answered = {};
  const turnOf = (address, how) => {
    if (typeof how?.body !== "string" || !String(address).includes("/run/")) return undefined;
    try { return turns[JSON.parse(how.body).fn_index]; } catch { return undefined; }
  };
  window.fetch = (address, how) => {
    const turn = turnOf(address, how);
    if (turn === undefined) return ask(address, how);
    const answer = (answered[turn] ?? Promise.resolve()).then(() => ask(address, how));
    answered[turn] = answer.then((told) => told.clone().text()).catch(() => {}); // all of it is here, or it failed
    return answer;
  };
}
