// Runs the public suite's own client against a proxy and prints, as JSON, what it said and how the suite itself judges it.
// node run.mjs SUITE BASE_URL [KNOWN.json ID…]: with ids only these are run again, over the results in KNOWN.json.
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, base, known, ...ids] = process.argv.slice(2)
const load = name => import(pathToFileURL(path.join(suite, name)))
const tests = (await load('tests/index.mjs')).default
const { runTests, getResults } = await load('test-engine/client/runner.mjs')
const { determineTestResult, resultTypes } = await load('test-engine/lib/results.mjs')

const chosen = ids.length ? tests.map(each => ({ ...each, tests: each.tests.filter(test => ids.includes(test.id)) })) : tests
await runTests(chosen, false, base)
const raw = { ...(known ? JSON.parse(fs.readFileSync(known)) : {}), ...getResults() }

const names = new Map(Object.entries(resultTypes).map(([name, type]) => [type, name]))
const verdicts = {}
for (const { tests: several } of tests) {
  for (const { id, kind } of several) {
    const verdict = names.get(determineTestResult(tests, id, raw))
    if (verdict !== 'untested') verdicts[id] = { kind: kind ?? 'required', verdict, said: raw[id] === true ? '' : raw[id].join(': ') }
  }
}
process.stdout.write(JSON.stringify({ raw, verdicts }))
