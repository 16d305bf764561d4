"""The name of every key. A video lives in shard `video_id % VIDEOS_SHARDS`, and its keys carry the shard's hash tag.

{videos:7}:live:42       hash    the totals shown; what of them gathered since batch `epoch` was claimed
                                 (`<count>_pending`); owner and duration; `unmarked_until` and `unmarked_last`, while
                                 nobody had marked the video when it became live
{videos:7}:liked:42:9    string  "1:<ms>" or "0:<ms>": the last mark of user 9 on video 42, as far as known
{videos:7}:seen:42:<v>   string  a view of this viewer was counted in this window
{videos:7}:address:42:<a> string how many views of this address were counted in this window
{videos:7}:pending       hash    changes that no batch has claimed; videos/fields.py has its grammar
{videos:7}:claimed       hash    pending, renamed: the batch that is being flushed
{videos:7}:batch         hash    number of the claimed batch, the last number ever, whether it is open, its sums
{videos:7}:rejected      hash    "<batch>:<field>" -> value: malformed fields, kept aside
{user:9}:recent          zset    videos that this user marked lately
videos:shards            string  the largest number of shards that there has been
videos:flushed           string  when a run of the flush last finished, in Unix milliseconds
videos:watched           string  when somebody first asked how the flush is, in Unix milliseconds
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from videos.conf import conf

SHARDS: Final = "videos:shards"
FLUSHED: Final = "videos:flushed"
WATCHED: Final = "videos:watched"


class ShardKeys:
    """The keys of one shard."""

    __slots__ = ("batch", "claimed", "pending", "prefix", "rejected")

    def __init__(self, shard: int) -> None:
        self.prefix = f"{{videos:{shard}}}:"
        self.pending = f"{self.prefix}pending"
        self.claimed = f"{self.prefix}claimed"
        self.batch = f"{self.prefix}batch"
        self.rejected = f"{self.prefix}rejected"

    def live(self, video_id: int) -> str:
        return f"{self.prefix}live:{video_id}"

    def liked(self, video_id: int, user_id: int) -> str:
        return f"{self.prefix}liked:{video_id}:{user_id}"

    def seen(self, video_id: int, viewer: str) -> str:
        return f"{self.prefix}seen:{video_id}:{viewer}"

    def address(self, video_id: int, address: str) -> str:
        return f"{self.prefix}address:{video_id}:{address}"


keys_of = lru_cache(maxsize=4096)(ShardKeys)  # VIDEOS_SHARDS is 4096 at most


def shard_of(video_id: int) -> int:
    """The shard in which a video lives."""
    return video_id % conf.SHARDS


def recent_key(user_id: int) -> str:
    """The user's own slot of a cluster: it holds no key of a video."""
    return f"{{user:{user_id}}}:recent"
