import { fileURLToPath } from 'node:url'
import { spawnSync } from 'node:child_process'

import { expect, test } from 'vitest'

import { finish, scrubbedEnvironment, temporaryDirectory } from '../support/cli.ts'

const DEMO = fileURLToPath(new URL('../../scripts/demo', import.meta.url))
// Nobody in here can make a user namespace, as in most containers.
const WITHOUT_NAMESPACES = ['-Ur', 'sh', '-c', 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', 'sh']

test('where the kernel gives no sandbox the demo says what is missing, and goes on without one', async (context) => {
  const probe = spawnSync('unshare', [...WITHOUT_NAMESPACES, 'true'], { encoding: 'utf8' })
  if (probe.status !== 0) context.skip(`no user namespace to forbid them in: ${probe.stderr}`)
  const home = temporaryDirectory('demo')
  // In CI it has to do the same as for a person.
  const env = { ...scrubbedEnvironment({ home, upstream: true }), CI: 'true' }
  const { code, stdout, stderr } = await finish('unshare', [...WITHOUT_NAMESPACES, DEMO], { cwd: home, env })
  expect(code, stdout + stderr).toBe(0)
  const [, installation = ''] = stdout.split('4. Install')
  expect(installation).toMatch(
    /install --require-sandbox\n.*\[SANDBOX_UNAVAILABLE\][^]*hint: [^]*NO SANDBOX[^]*install --no-require-sandbox [^]* unenforced: 1 build /,
  )
  expect(installation).toContain('what it tried to reach was not recorded')
  expect(stdout.match(/^ {3}ok {2}\S+/gm)).toHaveLength(7)
  expect(stdout).toMatch(/\nDone\.\n$/)
})
