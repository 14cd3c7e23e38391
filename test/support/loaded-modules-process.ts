import { appendFileSync } from 'node:fs'
import { registerHooks } from 'node:module'

// For `node --import`: writes the URL of each module that is loaded into the file that RECORD_LOADED_MODULES names.
const record = process.env['RECORD_LOADED_MODULES']
if (record === undefined) throw new Error('RECORD_LOADED_MODULES is not set')
registerHooks({
  load(url, context, nextLoad) {
    appendFileSync(record, `${url}\n`)
    return nextLoad(url, context)
  },
})
