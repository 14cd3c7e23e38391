/**
 * `<pid>-<12 hex digits>`: makes a name that no other process uses, here or on another machine. Not a secret: it comes
 * from `Math.random`, since loading `node:crypto` would take as long as all the links of a further checkout.
 */
export function ownSuffix(): string {
  const digits = Math.floor(Math.random() * 2 ** 48).toString(16)
  return `${process.pid}-${digits.padStart(12, '0')}`
}
