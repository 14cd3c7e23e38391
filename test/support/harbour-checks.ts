/** What a service of `examples/harbour` says that it loaded. */
interface Check {
  readonly service: string
  readonly loaded: Readonly<Record<string, string>>
  /** Loaded without being declared. */
  readonly phantom?: Readonly<Record<string, string | null>>
  /** Command → the package that answered to it. */
  readonly commands?: Readonly<Record<string, string>>
  /** The file of the native addon that it loaded. */
  readonly addon?: string
}

/** What each service's check prints inside the flattened environment, by path. */
export const CHECKS: readonly Check[] = [
  {
    service: 'dashboard',
    loaded: {
      esbuild: '0.25.5',
      react: '19.1.0',
      'react-dom': '19.1.0',
      'react-error-boundary': '6.0.0',
      semver: '7.7.2',
      zustand: '5.0.5',
    },
  },
  {
    service: 'kiosk',
    loaded: { '@lukeed/uuid': '2.0.1', react: '19.1.0', 'react-dom': '19.1.0' },
    phantom: { ms: '2.1.3' },
  },
  { service: 'tide', loaded: { suncalc: '1.9.0' } },
  {
    service: 'berths',
    loaded: { chalk: '4.1.2', debug: '4.4.3', 'node-uuid': '1.4.8', semver: '7.7.2' },
    commands: { uuid: 'node-uuid' },
  },
  { service: 'cranes', loaded: { chalk: '5.6.2', debug: '4.4.3', 'mqtt-packet': '8.2.1', 'old-chalk': '4.1.2' } },
  {
    service: 'customs',
    loaded: { '@lukeed/uuid': '2.0.1', chalk: '4.1.2', semver: '7.7.2', uuid: '9.0.1' },
    commands: { uuid: 'uuid' },
  },
  { service: 'gatehouse', loaded: { bcrypt: '6.0.0' }, addon: 'bcrypt.glibc.node' },
]
