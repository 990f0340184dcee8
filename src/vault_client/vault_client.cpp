#include "vault_client/vault_client.hpp"

#include "io/clock.hpp"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <array>

namespace curvegate::vault_client {

/// Requests that go out by one call.
struct VaultClient::Batch {
    std::array<std::uint32_t, os::kMessagesACall> ids;
    std::array<vault::Message, os::kMessagesACall> messages;
    std::size_t size = 0;
    [[nodiscard]] bool full() const noexcept { return size == ids.size(); }
};

VaultClient::VaultClient(asio::io_context& context, Duration timeout, Detached detached)
    : context_(context), timeout_(timeout), detached_(detached), socket_(context), sweeper_(context) {}

VaultClient::~VaultClient() {
    on_lost = nullptr;
    detach();
    ++*life_;
}

void VaultClient::attach(os::UniqueFd fd) {
    if (socket_.is_open()) lose(VaultErrc::lost);
    error_code error;
    socket_.assign(asio::generic::seq_packet_protocol(AF_UNIX, 0), fd.get(), error);
    if (error) return;
    (void)fd.release();
    socket_.non_blocking(true, error);
    wait_readable();
    flush_soon();
}

void VaultClient::ask(const vault::RequestBody& body, Handler handler) {
    const auto refuse = [&](VaultErrc why) {
        asio::post(context_, [why, handler = std::move(handler)]() mutable { handler(fail(why)); });
    };
    if (!socket_.is_open() && detached_ == Detached::fail) return refuse(VaultErrc::lost);
    if (pending_.size() >= kMaxPending) return refuse(VaultErrc::too_many);
    while (next_id_ == vault::kNoticeId.value || pending_.contains(next_id_)) ++next_id_;
    const vault::RequestId id{next_id_++};
    if (pending_.empty()) start_sweeping();
    const auto added = pending_.emplace(id.value, Pending{std::move(handler), io::now(), body, {}});
    Pending& pending = added.first->second;
    Queue& queue = queue_of(pending);
    pending.place = queue.insert(queue.end(), id.value);
    flush_soon();
}

// What is asked in one turn of the loop goes out together: one wake-up of the vault for all.
void VaultClient::flush_soon() {
    if (writing_ || waiting() == 0 || !socket_.is_open()) return;
    writing_ = true;
    asio::post(context_, [this, life = life_, generation = *life_] {
        if (generation == *life) flush();
    });
}

VaultClient::Handler VaultClient::take(std::unordered_map<std::uint32_t, Pending>::iterator pending) {
    if (pending->second.place) {
        queue_of(pending->second).erase(*pending->second.place);
    } else if (pending->second.is_hello()) {
        --hellos_sent_;
    }
    auto handler = std::move(pending->second.handler);
    pending_.erase(pending);
    return handler;
}

// Hellos go in turn; under load the newest first, since the oldest would be answered too late for their
// clients.
VaultClient::Batch VaultClient::next_batch() const {
    Batch batch;
    for (auto id = prompts_.begin(); id != prompts_.end() && !batch.full(); ++id) add(batch, *id);
    const auto add_hellos = [&](auto id, const auto& end) {
        std::size_t room = kMaxHellos - std::min(kMaxHellos, hellos_sent_);
        for (; id != end && room != 0 && !batch.full(); ++id, --room) add(batch, *id);
    };
    if (busy()) {
        add_hellos(hellos_.rbegin(), hellos_.rend());
    } else {
        add_hellos(hellos_.begin(), hellos_.end());
    }
    return batch;
}

void VaultClient::add(Batch& batch, std::uint32_t id) const {
    vault::Message& message = batch.messages[batch.size];
    const vault::Request request{vault::RequestId{id}, pending_.at(id).body};
    message.size = serialise(request, message.bytes).size();
    batch.ids[batch.size++] = id;
}

void VaultClient::mark_sent(std::uint32_t id) {
    Pending& pending = pending_.at(id);
    queue_of(pending).erase(*pending.place);
    pending.place.reset();
    if (pending.is_hello()) ++hellos_sent_;
}

void VaultClient::flush() {
    std::array<os::MessageSlot, os::kMessagesACall> slots;
    while (true) {
        Batch batch = next_batch();
        if (batch.size == 0) break;
        for (std::size_t i = 0; i < batch.size; ++i)
            slots[i] = {batch.messages[i].bytes, batch.messages[i].size};
        const auto sent = os::send_messages(socket_.native_handle(), std::span(slots).first(batch.size));
        if (!sent) return lose(VaultErrc::lost);
        if (*sent == 0) {
            socket_.async_wait(Socket::wait_write,
                               [this, life = life_, generation = *life_](error_code error) {
                                   if (!error && generation == *life) flush();
                               });
            return;
        }
        for (const std::uint32_t id : std::span(batch.ids).first(*sent)) mark_sent(id);
    }
    writing_ = false;
}

void VaultClient::wait_readable() {
    socket_.async_wait(Socket::wait_read, [this, life = life_, generation = *life_](error_code error) {
        if (error || generation != *life) return;
        read_all();
    });
}

void VaultClient::read_all() {
    const auto life = life_;
    const auto generation = *life;
    std::array<vault::MessageBuffer, os::kMessagesACall> buffers;
    std::array<os::MessageSlot, os::kMessagesACall> slots;
    for (std::size_t i = 0; i < slots.size(); ++i) slots[i].bytes = buffers[i];
    std::size_t came = slots.size();
    while (came == slots.size()) {
        const auto received = os::receive_messages(socket_.native_handle(), slots);
        if (!received) return lose(VaultErrc::lost);
        came = *received;
        for (const auto& slot : std::span(slots).first(came)) {
            if (slot.size == 0 || !slot.whole) return lose(VaultErrc::lost);
            deliver(slot.bytes.first(slot.size));
            if (generation != *life) return;
        }
    }
    wait_readable();  // it looks again whether something waits
}

void VaultClient::deliver(Bytes message) {
    auto reply = vault::parse_reply(message);
    if (!reply) return lose(VaultErrc::malformed);
    if (const auto* notice = std::get_if<vault::KeyDropped>(&reply->body)) {
        if (on_key_dropped) on_key_dropped(notice->slot);
        return;
    }
    if (const auto* other = std::get_if<vault::OtherSlot>(&reply->body)) server_slot_ = other->current;
    const auto found = pending_.find(reply->id.value);
    if (found == pending_.end()) return;  // answered too late: its asker is gone
    if (found->second.place || verb_of(reply->body) != verb_of(found->second.body))
        return lose(VaultErrc::malformed);
    auto handler = take(found);
    flush_soon();
    handler(reply->body);
}

void VaultClient::lose(VaultErrc why) {
    error_code ignored;
    socket_.close(ignored);
    ++*life_;
    writing_ = false;
    prompts_.clear();
    hellos_.clear();
    hellos_sent_ = 0;
    sweeper_.cancel();
    auto orphans = std::exchange(pending_, {});
    if (on_lost) on_lost(describe(why));
    for (auto& [id, pending] : orphans) pending.handler(fail(why));
}

void VaultClient::start_sweeping() {
    sweeper_.expires_after(timeout_);
    sweep();
}

void VaultClient::sweep() {
    sweeper_.async_wait([this, life = life_, generation = *life_](error_code error) {
        if (error || generation != *life) return;
        const Instant now = io::now();
        std::vector<Handler> late;
        for (auto item = pending_.begin(); item != pending_.end();) {
            if (now - item->second.asked < timeout_) {
                ++item;
                continue;
            }
            late.push_back(take(item++));
        }
        flush_soon();
        for (auto& handler : late) handler(fail(VaultErrc::too_slow));
        if (generation != *life || pending_.empty()) return;
        sweeper_.expires_after(std::max<Duration>(timeout_ / 4, std::chrono::milliseconds(10)));
        sweep();
    });
}

}  // namespace curvegate::vault_client
