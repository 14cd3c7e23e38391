import { createRoot } from 'react-dom/client'

import { BerthBoard } from './berth-board.jsx'

createRoot(document.body).render(<BerthBoard now={new Date()} />)
