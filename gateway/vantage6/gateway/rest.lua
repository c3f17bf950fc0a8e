-- Makes answers of the REST door what HTTP and 1.x expect; native gRPC never passes here.

-- The transcoder writes errors as {"code":5,"message":"…","details":[…]}; 1.x has the text in "msg". The text is
-- copied as it stands, still escaped, so that nothing needs to be decoded.
local function with_msg(body)
  if body:sub(1, 1) ~= "{" or body:find('"msg":', 1, true) then
    return nil
  end
  local _, start = body:find('"message":"', 1, true)
  local text = ""
  if start then
    local stop = start + 1
    while body:sub(stop, stop) ~= '"' do
      if stop > #body then
        return nil
      end
      stop = stop + (body:sub(stop, stop) == "\\" and 2 or 1)
    end
    text = body:sub(start + 1, stop - 1)
  end
  local comma = body:sub(2, 2) == "}" and "" or ","
  return '{"msg":"' .. text .. '"' .. comma .. body:sub(2)
end

local function is_json(headers)
  local kind = headers:get("content-type")
  return kind ~= nil and kind:find("application/json", 1, true) == 1
end

-- What the server may hear of a REST request's headers. Others are no use there, and could do harm: a name or a value
-- that HTTP allows and gRPC does not ends the call as a failure of the server, and "grpc-timeout" would be obeyed.
local KNOWN = {
  [":authority"] = true, [":method"] = true, [":path"] = true, [":scheme"] = true, [":protocol"] = true,
  ["accept"] = true, ["authorization"] = true, ["baggage"] = true, ["content-length"] = true, ["content-type"] = true,
  ["last-event-id"] = true, ["origin"] = true, ["te"] = true, ["traceparent"] = true, ["tracestate"] = true,
  ["transfer-encoding"] = true, ["user-agent"] = true, ["x-forwarded-for"] = true, ["x-forwarded-proto"] = true,
  ["x-request-id"] = true,
}

function envoy_on_request(handle)
  local headers = handle:headers()
  local strange = {}
  for name, value in pairs(headers) do
    if not KNOWN[name] or (name:sub(1, 1) ~= ":" and not value:match("^[\32-\126]*$")) then
      strange[#strange + 1] = name
    end
  end
  for _, name in ipairs(strange) do
    headers:remove(name)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local wanted = headers:get("x-http-code")
  headers:remove("x-http-code")
  headers:remove("grpc-message")
  local status = tonumber(headers:get(":status"))
  if wanted and status == 200 and wanted:match("^2%d%d$") then
    headers:replace(":status", wanted)
  end
  if status < 400 or not is_json(headers) then
    return
  end
  -- Errors are short; successful answers are never held back here.
  local body = handle:body()
  if body == nil then
    return
  end
  local changed = with_msg(body:getBytes(0, body:length()))
  if changed then
    -- Waiting for the body has made the older handle invalid.
    handle:headers():replace("content-length", tostring(body:setBytes(changed)))
  end
end
