import { tideAt } from '@harbour/tide'
import { useMemo } from 'react'
import { ErrorBoundary } from 'react-error-boundary'
import { create } from 'zustand'

export const useBerths = create(() => ({ berths: ['Noorderpier 1', 'Noorderpier 2'] }))

export function BerthBoard({ now }) {
  const berths = useBerths((state) => state.berths)
  const tide = useMemo(() => tideAt(now).toFixed(2), [now])
  return (
    <ErrorBoundary fallback={<p>The board is out of order.</p>}>
      <h1>Tide {tide} m</h1>
      <ul>
        {berths.map((berth) => (
          <li key={berth}>{berth}</li>
        ))}
      </ul>
    </ErrorBoundary>
  )
}
