import suncalc from 'suncalc'

// The harbour wall, and the harmonic constants of its gauge: metres and hours.
const WALL = { latitude: 51.96, longitude: 4.03 }
const MEAN_LEVEL = 1.1
const SEMIDIURNAL = { amplitude: 0.79, period: 12.4206, phase: 2.2 }

/** Height of the water above the chart datum in metres, higher around new and full moon. */
export function tideAt(time) {
  const hours = time.getTime() / 3_600_000
  const { fraction } = suncalc.getMoonIllumination(time)
  const spring = 1 + 0.2 * Math.abs(2 * fraction - 1)
  const angle = (2 * Math.PI * (hours - SEMIDIURNAL.phase)) / SEMIDIURNAL.period
  return MEAN_LEVEL + SEMIDIURNAL.amplitude * spring * Math.cos(angle)
}

/** True if a ship of this draught (metres) can pass the sill at that time. */
export function canPass(draught, time) {
  return tideAt(time) + 11.5 - draught > 0.5
}

export const moonPosition = (time) => suncalc.getMoonPosition(time, WALL.latitude, WALL.longitude)
