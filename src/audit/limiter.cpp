#include "audit/limiter.hpp"

#include <algorithm>
#include <utility>

namespace curvegate::audit {

Limiter::Bucket& Limiter::bucket_of(const std::string& word, Instant now) {
    if (const auto found = buckets_.find(word); found != buckets_.end()) return found->second;
    const std::string& known = buckets_.size() < kMostWords ? word : std::string();
    return buckets_.try_emplace(known, Bucket{kBurst, now, 0}).first->second;
}

std::uint64_t Limiter::take(const std::string& word, Instant now) {
    Bucket& bucket = bucket_of(word, now);
    const double passed = std::chrono::duration<double>(now - bucket.filled) / kEvery;
    bucket.tokens = std::min(kBurst, bucket.tokens + passed);
    bucket.filled = now;
    ++bucket.waiting;
    if (bucket.tokens < 1) return 0;
    bucket.tokens -= 1;
    return std::exchange(bucket.waiting, 0);
}

void Limiter::drain(const std::function<void(const std::string& word, std::uint64_t count)>& each) {
    for (auto& [word, bucket] : buckets_) {
        if (const auto count = std::exchange(bucket.waiting, 0); count != 0) each(word, count);
    }
}

}  // namespace curvegate::audit
