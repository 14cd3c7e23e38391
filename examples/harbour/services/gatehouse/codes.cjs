const bcrypt = require('bcrypt')

// Twelve doublings: a quarter of a second at the gate, and years for somebody who has the list.
const COST = 12

/** What is kept of the code of a gate. */
exports.hashCode = (code, cost = COST) => bcrypt.hash(code, cost)

/** True if this code was hashed. What is no hash opens nothing. */
exports.opens = (code, hash) => bcrypt.compare(code, hash)

/** True if it was hashed with a lower cost than is asked for today, and should be hashed again at the next visit. */
exports.isWeak = (hash) => bcrypt.getRounds(hash) < COST
