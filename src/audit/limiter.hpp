#pragma once

#include "base/time.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace curvegate::audit {

/// Lets some of many alike decisions through and counts the others, so that whoever causes them cannot fill
/// the disk. What is alike, the caller says by a word; words are few, and beyond kMostWords they share one.
class Limiter {
  public:
    static constexpr double kBurst = 20;
    static constexpr Duration kEvery = std::chrono::seconds(10);  ///< a line, once the burst is used
    static constexpr std::size_t kMostWords = 4'096;

    /// One more of these. 0: no line for it; else how many the line stands for, with this one.
    [[nodiscard]] std::uint64_t take(const std::string& word, Instant now);
    /// Each word with a count that no line tells, and forgets the count.
    void drain(const std::function<void(const std::string& word, std::uint64_t count)>& each);

  private:
    struct Bucket {
        double tokens = kBurst;
        Instant filled;
        std::uint64_t waiting = 0;
    };
    [[nodiscard]] Bucket& bucket_of(const std::string& word, Instant now);
    std::map<std::string, Bucket, std::less<>> buckets_;
};

}  // namespace curvegate::audit
