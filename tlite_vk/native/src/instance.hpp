// A Vulkan instance, with the Khronos validation layer and a collector of its messages where asked for.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>
#include <vulkan/vulkan.hpp>

namespace tlite {

class Instance {
  public:
    /// log: a file to append messages to, empty for none. Throws DeviceError without a loader, a driver or (validation)
    /// the layer.
    explicit Instance(bool validation, std::string log = "");
    ~Instance();
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;

    /// The device of that index; throws DeviceError listing the devices there are.
    vk::PhysicalDevice device(int64_t index) const;
    std::vector<vk::PhysicalDevice> devices() const;
    uint32_t api_version() const { return api_version_; }
    vk::Instance handle() const { return handle_; }

    void add_message(const char* text);
    std::vector<std::string> messages() const;
    void clear_messages();

  private:
    void check_validation_layer() const;

    uint32_t api_version_ = VK_API_VERSION_1_1;
    vk::Instance handle_;
    VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
    std::string log_;
    mutable std::mutex mutex_;
    std::vector<std::string> messages_;
};

} // namespace tlite
