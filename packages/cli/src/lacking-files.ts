import type { LackingFile } from '@polder/index/build-requirements'

/** What a script will fetch, and what pins it or makes that needless. */
export function lackingLine({ neededBy, name, url, end, for: tool, compiles, without }: LackingFile): string {
  const add = (where: string): string =>
    `\`polder index add ${quoted(where)} --sha512 …${tool === undefined ? '' : ` --for ${quoted(tool)}`}\` pins it`
  const learn = `\`polder builds ${name} --learn\` finds out`
  const does =
    without === undefined
      ? ''
      : `; ${without[0]}: '${without[1]}' for it in builds.env ${compiles ? 'compiles' : 'does without'}`
  if (url !== undefined)
    return `${neededBy} fetches ${url} when it is built, which is not pinned${compiles ? ', and compiles without it' : ''}: ${add(url)}${does}`
  if (end !== undefined)
    return `${neededBy} fetches a file whose URL ends with ${end} when it is built, and none such is pinned: ${learn} where it is, ${add(`URL${end}`)}${does}`
  return `${neededBy} fetches a file when it is built, and none is pinned that it would ask for: ${learn} which, ${add('URL')}${does}`
}

/** As one word of a shell; a manifest may say what it likes. */
function quoted(word: string): string {
  return /^[\w:/.@%+=~,-]+$/.test(word) ? word : `'${word.replaceAll("'", '%27')}'`
}
