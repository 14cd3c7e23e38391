// An entry of its own: it loads what reads and writes archives.
export { exportBundle, type ExportReport } from './bundle-export.ts'
export { importBundle, type ImportReport } from './bundle-import.ts'
