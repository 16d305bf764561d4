"""The name of every key. A video lives in shard `video_id % VIDEOS_SHARDS`, and its keys carry the shard's hash tag.

{videos:10}:live:42        hash    the totals that are shown; owner and duration; `unmarked_until`, if the video had no
                                   marks when it became live; `meeting`, its stamp; `primed`, the newest batch when it
                                   was made from the row; `since` and `born`: older liked and seen keys are invalid, and
                                   dated views up to `born_at` (Unix seconds)
{videos:10}:liked:42:9     string  "1:<ms>:<stamp>" or "0:…": the last mark of user 9 on video 42, as far as known; the
                                   stamp is that of the shard then
{videos:10}:seen:42:<v>    string  a view of this viewer was counted in this window; its value is such a stamp
{videos:10}:dated:42:<v>   zset    times of this viewer's counted views, of those that came with a time of their own
{videos:10}:address:42:<a> string  how many views of this address were counted in this window
{videos:10}:pending        hash    changes that no batch has claimed; videos/fields.py has its grammar
{videos:10}:claimed        hash    pending, renamed: the batch that is being flushed
{videos:10}:sums           hash    "likes:42" -> how much of a live total is pending
{videos:10}:claimed_sums   hash    sums, renamed, of the batch that was claimed last
{videos:10}:batch          hash    number of the claimed batch, the highest number ever, whether it is open, its sums;
                                   `tail`, the newest closed batch; `met` and `fence`, the last meeting; `meeting` and
                                   `forgotten`, the stamps from which live and liked keys are trusted;
                                   `stamp`, which grows whenever liked keys become invalid;
                                   `unkept`, when batches were last dropped early (Unix ms)
{videos:10}:done:17        hash    what batch 17 held, for a replay
{videos:10}:closed         hash    17 -> "<closed at (Unix ms)>:<the batch before>", of batches that are kept
{videos:10}:lives          set     videos of the shard that have, or had lately, a live key
{videos:10}:rejected       hash    "<batch>:<field>" -> value: malformed fields, set aside
{user:9}:recent            zset    videos on which a mark of this user waits for the flush
videos:address:<a>         string  how many views of this address were counted in this window, of all videos
videos:network:<n>         string  the same for the network of an address
{videos:10}:addresses:<a>  string  in place of the two, on a server in cluster mode: of the videos of this shard
{videos:10}:networks:<n>   string
videos:hits:<name>         string  how many requests a throttle counted in this window, of all processes
videos:identity            string  the id that this Redis and its database share
videos:location            string  a hash of where that database was when they met
videos:shards              string  VIDEOS_SHARDS
videos:flushed             string  when a run of the flush last finished, in Unix milliseconds
videos:probed              string  that health could write
{videos:0}:tried           string  that a check could write; {user:0}:tried, too
videos:beats               hash    shard -> when a run of the flush last finished with it, in Unix milliseconds
videos:watched             string  when the state of the flush was first read, in Unix milliseconds
"""

from functools import lru_cache
from typing import Final

from videos.conf import conf

IDENTITY: Final = "videos:identity"
LOCATION: Final = "videos:location"
SHARDS: Final = "videos:shards"
FLUSHED: Final = "videos:flushed"
PROBED: Final = "videos:probed"
BEATS: Final = "videos:beats"
WATCHED: Final = "videos:watched"

OF_VIEWS: Final = tuple(f"{{videos:*}}:{kind}:*" for kind in ("seen", "dated", "address"))


class ShardKeys:
    """The keys of one shard."""

    __slots__ = ("batch", "claimed", "claimed_sums", "closed", "lives", "pending", "prefix", "rejected", "sums")

    def __init__(self, shard: int) -> None:
        self.prefix = f"{{videos:{shard}}}:"
        self.pending = f"{self.prefix}pending"
        self.claimed = f"{self.prefix}claimed"
        self.sums = f"{self.prefix}sums"
        self.claimed_sums = f"{self.prefix}claimed_sums"
        self.batch = f"{self.prefix}batch"
        self.closed = f"{self.prefix}closed"
        self.lives = f"{self.prefix}lives"
        self.rejected = f"{self.prefix}rejected"

    def done(self, number: int) -> str:
        return f"{self.prefix}done:{number}"

    def live(self, video_id: int) -> str:
        return f"{self.prefix}live:{video_id}"

    def liked(self, video_id: int, user_id: int) -> str:
        return f"{self.prefix}liked:{video_id}:{user_id}"

    def seen(self, video_id: int, viewer: str) -> str:
        return f"{self.prefix}seen:{video_id}:{viewer}"

    def dated(self, video_id: int, viewer: str) -> str:
        return f"{self.prefix}dated:{video_id}:{viewer}"

    def address(self, video_id: int, address: str) -> str:
        return f"{self.prefix}address:{video_id}:{address}"

    def addresses(self, address: str) -> str:
        return f"{self.prefix}addresses:{address}"

    def networks(self, network: str) -> str:
        return f"{self.prefix}networks:{network}"


keys_of = lru_cache(maxsize=4096)(ShardKeys)  # VIDEOS_SHARDS is 4096 at most


def shard_of(video_id: int) -> int:
    """The shard in which a video lives."""
    return video_id % conf.SHARDS


def hits_key(name: str) -> str:
    """The key of a throttle's window."""
    return f"videos:hits:{name}"


def address_key(address: str) -> str:
    """The key of the views that an address has counted in a window, of all videos. It is in no shard."""
    return f"videos:address:{address}"


def network_key(network: str) -> str:
    """The same for a network."""
    return f"videos:network:{network}"


def recent_key(user_id: int) -> str:
    """The key of a user's recent marks. It is in a slot of the user's own, apart from all keys of videos."""
    return f"{{user:{user_id}}}:recent"
