// A driver in JavaScript, for Node.js 18 or newer.  docs/porting.md defines what it reads and writes.
//
// It has the core of replay, with a log in memory: runs, activities, sleeps, signals and crashes.
// For each event it executes the function from its beginning, with the responses up to that event,
// and adds what the log does not have.  A real port keeps runs in memory and compares requests (R4).
'use strict';

const fail = (why, what = '') => { throw Object.assign(new Error(what), { why }); };
const lacks = (what) => fail('left out', what);
const write = (ms) => `${(ms / 1000).toFixed(3)}s`;
const read = (text) => (text === 'done' || text === '-' ? undefined : JSON.parse(text));

const workflows = {
  *greet(run, text) {
    const [enriched] = yield [run.call('enrich', text)];
    run.output('greeting', `Hello ${enriched}`);
  },
  *fan(run, text) {
    const both = yield [run.call('enrich', text), run.call('shout', text)];
    run.output('both', both.join(' '));
  },
  *nap(run, ms) {
    yield [run.sleep(ms)];
  },
  *wait(run, times) {
    for (let n = 0; n < times; n++) {
      const [heard] = yield [run.signal(1, 10000)];
      run.output('heard', heard ?? 'nothing');
    }
  },
};
const activities = { enrich: (text) => `[${text}]`, shout: (text) => `${text}!` };

// What is stored.

let now = 0; // milliseconds since the start
const log = []; // the event with the id n is at n-1
const byName = new Map(); // the same events, by type and key
const cursors = new Map();
const sleeps = new Map(); // when it is due, by the key of its request; until then
const awaits = new Map(); // the same for awaits
const signals = new Map(); // by what makes them unique, in the order of their ids
const executed = [];

const find = (type, key) => byName.get(`${type} ${key}`);

function add([type, key, message]) {
  if (find(type, key)) return false;
  byName.set(`${type} ${key}`, { id: log.length + 1, at: now, type, key, message });
  return log.push(find(type, key));
}

// Consumers.  Each is a function that works until nothing is left to do; it says whether it did.
// `handle` puts events to add, and changes of other tables, into the two lists.

function consumer(name, wants, handle) {
  let position = cursors.get(name) ?? 0;
  const step = (dies) => {
    const events = log.slice(position);
    const added = [], changes = [];
    handle(events.filter(wants), added, changes);
    position += events.length;
    if (added.length + changes.length) { // one transaction
      if (dies === 'before') fail('killed');
      changes.forEach((change) => change());
      added.forEach(add);
      cursors.set(name, position);
      if (dies === 'after') fail('killed');
    }
    return events.length + added.length + changes.length;
  };
  cursors.set(name, position);
  return (dies) => {
    let done = 0, all = 0;
    while ((done = step(dies))) all += done;
    return all > 0;
  };
}

function workflow(name, namespace, target) {
  const code = workflows[target] ?? lacks(`the workflow ${target}`);
  const wants = ({ type, key }) =>
    ['RUN_CREATED', 'ACTIVITY_RESPONSE'].includes(type) && key.startsWith(`${namespace}/${target}/`);
  return consumer(name, wants, (events, added) => {
    for (const { id, key } of events) replay(code, key.split('/', 4).join('/'), id, added);
  });
}

function replay(code, iteration, last, added) {
  const counts = {};
  const produce = (type, target, message, mark = '') => {
    const n = counts[target + mark] = (counts[target + mark] ?? -1) + 1;
    const key = `${iteration}/${target}/${mark}${n}`;
    const isNew = !find(type, key) && !added.some((each) => each[0] === type && each[1] === key);
    if (isNew) added.push([type, key, message]);
    return key;
  };
  const request = (...rest) => produce('ACTIVITY_REQUEST', ...rest);
  const run = code({
    call: (activity, value) => request(activity, JSON.stringify(value)),
    sleep: (ms) => request('replay_sleep', write(Math.max(0, ms))),
    signal: (type, ms) => request('replay_signal', write(ms), `${type}:`),
    output: (name, value) => produce('RUN_OUTPUT', name, JSON.stringify(value)),
  }, read(find('RUN_CREATED', iteration).message));
  let { value: requests, done } = run.next();
  while (!done) {
    const responses = requests.map((key) => find('ACTIVITY_RESPONSE', key));
    if (responses.some((each) => !each || each.id > last)) return;
    ({ value: requests, done } = run.next(responses.map(({ message }) => read(message))));
  }
  if (!find('RUN_COMPLETED', iteration)) added.push(['RUN_COMPLETED', iteration, '-']);
}

const isOpen = (target, namespace = '') => ({ type, key }) => type === 'ACTIVITY_REQUEST'
  && key.startsWith(namespace) && key.split('/')[4] === target && !find('ACTIVITY_RESPONSE', key);

function activity(name, namespace, target) {
  const code = activities[target] ?? lacks(`the activity ${target}`);
  return consumer(name, isOpen(target, `${namespace}/`), (events, added) => {
    for (const { key, message } of events) {
      executed.push(`${key} attempt 1`);
      added.push(['ACTIVITY_RESPONSE', key, JSON.stringify(code(read(message)))]);
    }
  });
}

// Sleeps and awaits are rows that say when they are due.  `answers` yields what ends a row now.
function timer(name, rows, answers) {
  return consumer(name, isOpen(name), (events, added, changes) => {
    const all = new Map(rows);
    for (const { key, at, message } of events.filter(({ key }) => !rows.has(key))) {
      all.set(key, at + Math.round(parseFloat(message) * 1000));
      changes.push(() => rows.set(key, all.get(key)));
    }
    for (const [key, message] of answers(all, changes)) {
      changes.push(() => rows.delete(key));
      added.push(['ACTIVITY_RESPONSE', key, message]);
    }
  });
}

const sleeper = (name) => timer(name, sleeps, (rows) =>
  [...rows].filter(([, due]) => due <= now).sort((a, b) => a[1] - b[1]).map(([key]) => [key, 'done']));

const matcher = (name) => timer(name, awaits, function* (rows, changes) {
  const taken = new Set();
  for (const [key, until] of rows) {
    const to = key.replace(/\/\d+\/replay_signal\/(.+):\d+$/, ' $1'); // run and type
    const sent = [...signals.values()].find((s) => s.to === to && !s.taker && !taken.has(s));
    if (sent && (now < until || sent.at <= until)) {
      taken.add(sent);
      changes.push(() => { sent.taker = key; });
      yield [key, sent.message];
    } else if (until <= now) {
      yield [key, 'done'];
    }
  }
});

// Commands.

const processes = new Map();
const makers = { workflow, activity, replay_sleep: sleeper, replay_signal: matcher };
const value = (words) => (/^[A-Za-z]/.test(words[0]) ? lacks(`a ${words[0]}`) : words.join(' '));

function checked(run) {
  const names = run.split('/');
  return names.length === 3 && !names.some((each) => /^\.{0,2}$/.test(each)) ? run : fail('refused');
}

function start(name) {
  const [kind, namespace, target, shard] = name.split('/');
  const make = shard ? undefined : makers[kind];
  processes.set(name, (make ?? lacks(`the consumer ${name}`))(name, namespace, target));
}

const commands = {
  run: (run, ...words) => [add(['RUN_CREATED', `${checked(run)}/0`, value(words)]) ? 'yes' : 'no'],
  signal(run, type, id, ...words) {
    if (type < -128 || type > 127) fail('refused');
    const to = `${checked(run)} ${type}`;
    if (signals.has(`${to} ${id}`)) return ['no'];
    signals.set(`${to} ${id}`, { to, id, at: now, message: value(words), taker: '' });
    return ['yes'];
  },
  start: (...names) => names.forEach(start),
  drain(...names) {
    const all = names.length ? names.map((name) => processes.get(name)) : [...processes.values()];
    while (all.filter((work) => work()).length);
  },
  crash(name, when) {
    try {
      if (when) processes.get(name)(when);
    } catch (error) {
      if (error.why !== 'killed') throw error;
    }
    processes.delete(name);
  },
  clock: (forward) => { now += Math.round(parseFloat(forward) * 1000); },
  cursor: (name, id) => { cursors.set(name, Number(id)); },
  log: (after = 0) => log.slice(after).map((each) =>
    `${each.id} +${write(each.at)} ${each.type} ${each.key} ${each.message}`),
  signals: () => [...signals.values()].map(({ at, to, id, message, taker }, n) =>
    `${n + 1} +${write(at)} ${to} ${id} ${message} taken by ${taker || '-'}`),
  cursors: () => [...cursors].sort().map((each) => each.join(' ')),
  executed: () => executed.splice(0),
};

for (const line of require('fs').readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
  const [name, ...words] = line.split(' ');
  let printed;
  try {
    printed = (commands[name] ?? lacks(`the command ${name}`))(...words) ?? null;
  } catch (error) {
    if (error.why === 'left out') {
      console.log(`left out: ${error.message}`);
      break;
    }
    printed = error.why === 'refused' ? ['refused'] : fail('', error.stack);
  }
  console.log(printed ? [...(printed.length ? printed : ['nothing']), ''].join('\n') : '');
}
