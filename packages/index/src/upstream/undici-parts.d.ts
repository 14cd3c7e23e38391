// The parts of undici that a download needs; their types are those of undici itself.
declare module 'undici/lib/dispatcher/agent.js' {
  import { Agent } from 'undici'
  export default Agent
}
