// How many priors agree on a face, and what that makes of its score, as `featherface/inference/votes.py`, whose
// numbers `rule` has.

import { overlap } from "./overlap.js";

/** The score of the network from which on votes can lift a face above a threshold. */
export function leastLikely(threshold, { max_gain: maxGain }) {
  return threshold / (threshold + maxGain * (1 - threshold));
}

/** The score of a face once the candidates, sorted by falling score, have voted. */
export function votedScore({ box, score }, candidates, rule) {
  const height = Math.max(box[3] - box[1], 1);
  const votes = Math.max(countVotes(box, score, candidates, rule), 1);
  const gain =
    (votes / rule.usual_votes) ** rule.votes_power * (rule.usual_height_px / height) ** rule.height_power;
  const odds = score * Math.min(gain, rule.max_gain);
  return odds / (odds + 1 - score);
}

function countVotes(box, score, candidates, rule) {
  const least = Math.max(rule.least_share * score, rule.least_voter_score);
  let votes = 0;
  for (const voter of candidates) {
    if (voter.score <= least) break;
    const place = (overlap(box, voter.box) - rule.least_overlap) / (rule.whole_overlap - rule.least_overlap);
    const share = voter.score < score ? (voter.score - least) / (score - least) : 1;
    votes += Math.min(Math.max(place, 0), 1) * share;
  }
  return votes;
}
