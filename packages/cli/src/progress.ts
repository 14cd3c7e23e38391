import { ERASE_LINE, printable, type Output } from './output.ts'

export interface Progress {
  update(done: number, total: number, detail?: string): void
  /** Erases the display. */
  end(): void
}

const INTERVAL_MS = 80

/** One line on the terminal, `Fetching 120/563  react@19.2.0`, drawn a few times a second; nothing elsewhere. */
export function startProgress(output: Output, label: string): Progress {
  if (!output.interactive) return { update: () => undefined, end: () => undefined }
  let drawn = 0
  return {
    update: (done, total, detail = '') => {
      const now = performance.now()
      if (now - drawn < INTERVAL_MS && done < total) return
      drawn = now
      const text = `${label} ${done}/${total}  ${printable(detail)}`
      process.stderr.write(`${ERASE_LINE}${text.slice(0, Math.max(20, width()) - 1)}`)
    },
    end: () => {
      process.stderr.write(ERASE_LINE)
    },
  }
}

/** A terminal that does not say how wide it is says 0. */
function width(): number {
  return process.stderr.columns > 0 ? process.stderr.columns : 80
}
