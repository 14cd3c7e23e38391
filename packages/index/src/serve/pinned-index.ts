import type { Lock, LockedKey } from '@polder/lock'
import type { Integrity, PackageId } from '@polder/spec'
import { RangeCache } from '@polder/spec/semver-ranges'
import { hasArtifact, type Store } from '@polder/store'

import type { Bodies } from './body.ts'
import { BodyMemory } from './body-memory.ts'
import { describeVersion, inputsOf, joinInputs } from './described-version.ts'
import { type DocumentSource, makeBody } from './document-body.ts'
import { bodyUnder, type DocumentPack, openPack, packedDocument, type PackedDocument } from './document-pack.ts'
import { bareDocument, type DescribedVersion, npmDocument, type NpmDocument } from './npm-documents.ts'
import { OverflowFile } from './overflow-file.ts'
import type { Resource } from './resource.ts'
import { ServedArtifact } from './served-artifact.ts'
import { ServedDocument } from './served-document.ts'
import { ReadBuffers } from './sent-file.ts'
import {
  lockedPins,
  type LockedPins,
  type PinnedUrl,
  type PinnedVersion,
  type PinnedVersions,
  unionOfFiles,
  unionOfPins,
  unionOfUnpinned,
  type UnpinnedVersion,
} from './locked-pins.ts'

/** Some pins as one registry: those of one lock, or of all. */
export interface View {
  /** The id of the lock; empty for all. */
  readonly id: string
  readonly versions: PinnedVersions
  readonly unpinned: ReadonlyMap<string, readonly UnpinnedVersion[]>
  /** By path. */
  readonly files: ReadonlyMap<string, PinnedUrl>
  readonly keys: ReadonlyMap<string, LockedKey>
}

/**
 * A lock, or what of it counts here, and the short digest of its text by which its view is asked for. `documents` is the
 * path of its pack, which need not be there.
 */
export type NamedLock = { readonly id: string; readonly documents?: string } & (
  | { readonly lock: Lock }
  | { readonly pins: LockedPins }
)

interface ServedLock {
  readonly pins: LockedPins
  readonly documents?: string
}

/**
 * What several locks pin, ready to be served. It does not change: for other locks there is another one, and the bytes are
 * read from the store when they are asked for.
 */
export class PinnedIndex {
  readonly store: Store
  /** Everything, and each lock alone. */
  readonly all: View
  readonly views: ReadonlyMap<string, View>
  readonly bodies: Bodies
  readonly #artifacts = new Map<Integrity, ServedArtifact>()
  readonly #shasums = new Map<Integrity, string | undefined>()
  readonly ranges: RangeCache = new RangeCache()
  readonly #sites = new Map<string, Site>()
  readonly #packPaths: readonly string[]
  #packs: readonly DocumentPack[] | undefined

  constructor(store: Store, locks: ReadonlyMap<string, ServedLock>, memoryBytes: number) {
    this.store = store
    this.bodies = {
      memory: new BodyMemory(memoryBytes),
      overflow: new OverflowFile(store),
      buffers: new ReadBuffers(),
    }
    const all = [...locks.values()]
    this.#packPaths = all.flatMap(({ documents }) => documents ?? [])
    this.all = viewOf(
      '',
      all.map(({ pins }) => pins),
    )
    // Of one lock alone that is the same, which is nearly always so.
    this.views = new Map(
      [...locks].map(([id, { pins }]) => [id, locks.size === 1 ? { ...this.all, id } : viewOf(id, [pins])]),
    )
  }

  /** The index as it is seen under one base URL. Servers with the same one share it, and its documents. */
  site(baseUrl: string): Site {
    let site = this.#sites.get(baseUrl)
    if (site === undefined) {
      site = new Site(this, baseUrl)
      this.#sites.set(baseUrl, site)
    }
    return site
  }

  /** The pins that the store has no artifact of. A look at each, in turns with other work. */
  async missing(): Promise<readonly PackageId[]> {
    const missing: PackageId[] = []
    let looked = 0
    for (const versions of this.all.versions.values()) {
      for (const { id, integrity } of versions.values()) {
        if (!hasArtifact(this.store, integrity)) missing.push(id)
        if ((looked += 1) % 64 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
    }
    return missing
  }

  artifact(integrity: Integrity, label: string, kind: 'tarball' | 'file'): ServedArtifact {
    let artifact = this.#artifacts.get(integrity)
    if (artifact === undefined) {
      artifact = new ServedArtifact({ store: this.store, integrity, label, kind }, this.bodies)
      this.#artifacts.set(integrity, artifact)
    }
    return artifact
  }

  /** The document of a name in a view, for tarballs below `base`: as it was packed when it was pinned, or made. */
  async source(view: View, name: string, origin: string, base: string): Promise<DocumentSource> {
    let made: Promise<NpmDocument> | undefined
    const make = (): Promise<NpmDocument> => (made ??= this.document(view, name, origin, base))
    const packed = this.#packed(view, name)
    return {
      modified: packed?.document.modified ?? (await make()).modified,
      body: async (length, anew) => {
        const body =
          packed === undefined || anew
            ? undefined
            : await bodyUnder(packed.pack, packed.document[length], { origin, base })
        return body ?? sourceOf(await make()).body(length, anew)
      },
    }
  }

  /** What a pack has of a name, if that was made of what this view has of it, and of what the store knows today. */
  #packed(view: View, name: string): { readonly pack: DocumentPack; readonly document: PackedDocument } | undefined {
    this.#packs ??= this.#packPaths.flatMap((path) => openPack(path) ?? [])
    let inputs: string | undefined
    for (const pack of this.#packs) {
      const document = packedDocument(pack, name)
      if (document === undefined) continue
      inputs ??= this.inputs(view, name)
      if (document.inputs === inputs && fitsView(document, this, view)) return { pack, document }
    }
    return undefined
  }

  /** There may be packs that were not there before. */
  openPacksAgain(): void {
    this.#packs = undefined
  }

  async document(view: View, name: string, origin: string, base: string): Promise<NpmDocument> {
    const isServed = (wanted: string, range: string): boolean => this.serves(view, wanted, range)
    return npmDocument(name, await this.describe(view, name), { origin, base, ranges: this.ranges, isServed })
  }

  /** What the document of a name follows from, with {@link fitsView}. */
  inputs(view: View, name: string): string {
    const pins = [...(view.versions.get(name)?.values() ?? [])]
    return joinInputs(pins.map((pin) => inputsOf(this.store, pin)))
  }

  /** Everything that is known of the pinned versions of a name. */
  async describe(view: View, name: string): Promise<readonly DescribedVersion[]> {
    const described: DescribedVersion[] = []
    for (const pin of view.versions.get(name)?.values() ?? []) {
      described.push(await describeVersion(this.store, pin, this.#shasums))
      // Most of it is read without waiting, and some names have thousands of versions.
      if (described.length % 32 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    return described
  }

  /** True if somebody who needs `name` in this range could get something. */
  serves(view: View, name: string, range: string): boolean {
    const versions = [...(view.versions.get(name)?.keys() ?? [])]
    return this.ranges.isRange(range)
      ? versions.some((version) => this.ranges.satisfies(version, range))
      : versions.length > 0
  }
}

function sourceOf(document: NpmDocument): DocumentSource {
  const { modified } = document
  return { modified, body: (length) => makeBody(Buffer.from(JSON.stringify(document[length]))) }
}

/** What lockfiles have of a name for platforms that are not locked. */
function elsewhereOf(view: View, name: string): readonly UnpinnedVersion[] {
  return view.unpinned.get(name)?.filter(({ elsewhere }) => elsewhere !== undefined) ?? []
}

/** True if a document has of its optional dependencies those that could be had in this view. */
export function fitsView({ optional }: PackedDocument, index: PinnedIndex, view: View): boolean {
  return optional.every(([name, range, served]) => index.serves(view, name, range) === served)
}

/**
 * The pins of some locks, to be served.
 * @param locks each with an id that its view is asked for by
 * @param options `memoryBytes`: how much memory bodies may take; what does not fit is read from the store
 * @throws PolderError `PIN_CONFLICT` if two locks mean different bytes by one version; `LOCK_INVALID`
 */
export function openIndex(
  store: Store,
  locks: readonly NamedLock[],
  { memoryBytes }: { readonly memoryBytes: number },
): PinnedIndex {
  const served = locks.map((named): [string, ServedLock] => {
    const pins = 'pins' in named ? named.pins : lockedPins(named.lock)
    return [named.id, named.documents === undefined ? { pins } : { pins, documents: named.documents }]
  })
  return new PinnedIndex(store, new Map(served), memoryBytes)
}

/** An index under one base URL: what the URLs of requests stand for. */
export class Site {
  readonly index: PinnedIndex
  /** Ends in a slash. Documents say that tarballs are below it; what a client sends as `Host` never matters. */
  readonly baseUrl: string
  /**
   * URL as it is sent → what it stands for: the only thing that is done for a request that was made before. Entered are
   * the ways in which clients write the URL of something that exists, so there is an end to it.
   */
  readonly byUrl: Map<string, Resource> = new Map()
  readonly #documents = new Map<string, ServedDocument>()

  constructor(index: PinnedIndex, baseUrl: string) {
    this.index = index
    this.baseUrl = baseUrl
  }

  document(view: View, name: string): ServedDocument | undefined {
    const elsewhere = view.versions.has(name) ? [] : elsewhereOf(view, name)
    if (!view.versions.has(name) && elsewhere.length === 0) return undefined
    const prefix = prefixOf(view)
    const path = `${prefix}/${name}`
    let document = this.#documents.get(path)
    if (document === undefined) {
      const base = this.#baseOf(view)
      const open = async (): Promise<DocumentSource> =>
        elsewhere.length > 0
          ? sourceOf(bareDocument(name, elsewhere, { base, ranges: this.index.ranges }))
          : this.index.source(view, name, this.baseUrl, base)
      document = new ServedDocument(open, this.index.bodies)
      this.#documents.set(path, document)
    }
    return document
  }

  /** What the document says of one version or tag. Nobody asks for that often, so it is made each time. */
  async version(view: View, name: string, version: string): Promise<object | undefined> {
    const { full } = await this.index.document(view, name, this.baseUrl, this.#baseOf(view))
    const { versions, 'dist-tags': tags } = full
    const wanted = Object.hasOwn(tags, version) ? tags[version] : version
    return wanted !== undefined && Object.hasOwn(versions, wanted) ? versions[wanted] : undefined
  }

  #baseOf(view: View): string {
    return `${this.baseUrl.slice(0, -1)}${prefixOf(view)}/`
  }

  tarball(pin: PinnedVersion): ServedArtifact {
    return this.index.artifact(pin.integrity, `${pin.name}@${pin.version}`, 'tarball')
  }

  /** Remembers a URL if it is one of the ways in which clients write this path below the view. */
  remember(url: string, view: View, path: string, resource: Resource): void {
    const prefix = prefixOf(view)
    const slash = path.startsWith('/@') ? path.indexOf('/', 2) : -1
    const ways = [path]
    if (slash > 0) for (const way of ['%2f', '%2F']) ways.push(`${path.slice(0, slash)}${way}${path.slice(slash + 1)}`)
    if (ways.some((way) => url === `${prefix}${way}`)) this.byUrl.set(url, resource)
  }

  /**
   * Brings the documents that are not in memory, as long as there is room for them.
   * @param turn settles when it may go on with the next one; false ends it
   */
  async prepare(turn: () => Promise<boolean>): Promise<void> {
    const { all, bodies } = this.index
    const { memory } = bodies
    for (const name of all.versions.keys()) {
      if (memory.used > memory.limit / 2 || !(await turn())) return
      await this.document(all, name)?.prepare()
    }
  }
}

function viewOf(id: string, locks: readonly LockedPins[]): View {
  const keys = new Map(locks.flatMap((lock) => Object.entries(lock.keys)))
  const versions = unionOfPins(locks)
  return { id, versions, unpinned: unionOfUnpinned(locks, versions), files: unionOfFiles(locks), keys }
}

/** `''` for all, `/@lock/<id>` for one lock. */
function prefixOf(view: View): string {
  return view.id === '' ? '' : `/@lock/${view.id}`
}
