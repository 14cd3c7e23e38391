// An entry of its own: it loads what reads and writes archives.
export { type BuiltTree, exportBundle, type ExportReport } from './bundle-export.ts'
export { importBundle, type ImportReport } from './bundle-import.ts'
