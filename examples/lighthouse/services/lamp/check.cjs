// cpu-features is a native addon and has nothing else to fall back to: it works, or it was not compiled.
const assert = require('node:assert/strict')

const detectFeatures = require('cpu-features')

const ARCHITECTURES = { x86: 'x64', aarch64: 'arm64' }
const { arch, flags } = detectFeatures()

assert.equal(ARCHITECTURES[arch], process.arch)
const supported = Object.keys(flags).filter((name) => flags[name])
assert.ok(supported.includes(process.arch === 'x64' ? 'sse2' : 'asimd'), `only ${supported.join(', ')}`)
const addon = process.report.getReport().sharedObjects.find((path) => path.endsWith('/cpufeatures.node'))
assert.ok(addon, 'the addon is not loaded')

console.log(
  JSON.stringify({
    service: 'lamp',
    loaded: { 'cpu-features': require('cpu-features/package.json').version },
    addon: addon.split('/').at(-1),
    arch,
  }),
)
