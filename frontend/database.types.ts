export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  public: {
    Tables: {
      agents: {
        Row: {
          active: boolean;
          baseline_model: string | null;
          created_at: string;
          default_floor: number;
          default_max_output_tokens: number;
          id: string;
          name: string;
          organization_id: string;
        };
        ComputedFields: never;
        Insert: {
          active?: boolean;
          baseline_model?: string | null;
          created_at?: string;
          default_floor?: number;
          default_max_output_tokens?: number;
          id: string;
          name: string;
          organization_id: string;
        };
        Update: {
          active?: boolean;
          baseline_model?: string | null;
          created_at?: string;
          default_floor?: number;
          default_max_output_tokens?: number;
          id?: string;
          name?: string;
          organization_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "agents_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
      api_keys: {
        Row: {
          agent_id: string;
          created_at: string;
          display_prefix: string;
          expires_at: string | null;
          id: string;
          key_hash: string;
          name: string;
          organization_id: string;
          replaced_by: string | null;
          revoked_at: string | null;
        };
        ComputedFields: never;
        Insert: {
          agent_id: string;
          created_at?: string;
          display_prefix: string;
          expires_at?: string | null;
          id: string;
          key_hash: string;
          name: string;
          organization_id: string;
          replaced_by?: string | null;
          revoked_at?: string | null;
        };
        Update: {
          agent_id?: string;
          created_at?: string;
          display_prefix?: string;
          expires_at?: string | null;
          id?: string;
          key_hash?: string;
          name?: string;
          organization_id?: string;
          replaced_by?: string | null;
          revoked_at?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "api_keys_agent_fkey";
            columns: ["organization_id", "agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["organization_id", "id"];
          },
        ];
      };
      audit_entries: {
        Row: {
          action: string;
          after: Json | null;
          before: Json | null;
          created_at: string;
          database_role: string;
          id: string;
          organization_id: string;
          row_id: string;
          table_name: string;
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          action: string;
          after?: Json | null;
          before?: Json | null;
          created_at: string;
          database_role: string;
          id: string;
          organization_id: string;
          row_id: string;
          table_name: string;
          user_id?: string | null;
        };
        Update: {
          action?: string;
          after?: Json | null;
          before?: Json | null;
          created_at?: string;
          database_role?: string;
          id?: string;
          organization_id?: string;
          row_id?: string;
          table_name?: string;
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "audit_entries_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
      candidate_cooldowns: {
        Row: {
          candidate_id: string;
          reason: string;
          until: string;
        };
        ComputedFields: never;
        Insert: {
          candidate_id: string;
          reason: string;
          until: string;
        };
        Update: {
          candidate_id?: string;
          reason?: string;
          until?: string;
        };
        Relationships: [
          {
            foreignKeyName: "candidate_cooldowns_candidate_id_fkey";
            columns: ["candidate_id"];
            isOneToOne: true;
            referencedRelation: "candidates";
            referencedColumns: ["id"];
          },
        ];
      };
      candidates: {
        Row: {
          capabilities: string[];
          context_window_tokens: number;
          enabled: boolean;
          id: string;
          input_overhead_tokens: number;
          max_audio_tokens: number | null;
          max_file_tokens: number | null;
          max_image_tokens: number | null;
          max_output_tokens: number;
          model: string;
          provider: string;
          upstream_model: string;
        };
        ComputedFields: never;
        Insert: {
          capabilities?: string[];
          context_window_tokens: number;
          enabled?: boolean;
          id: string;
          input_overhead_tokens?: number;
          max_audio_tokens?: number | null;
          max_file_tokens?: number | null;
          max_image_tokens?: number | null;
          max_output_tokens: number;
          model: string;
          provider: string;
          upstream_model: string;
        };
        Update: {
          capabilities?: string[];
          context_window_tokens?: number;
          enabled?: boolean;
          id?: string;
          input_overhead_tokens?: number;
          max_audio_tokens?: number | null;
          max_file_tokens?: number | null;
          max_image_tokens?: number | null;
          max_output_tokens?: number;
          model?: string;
          provider?: string;
          upstream_model?: string;
        };
        Relationships: [
          {
            foreignKeyName: "candidates_model_fkey";
            columns: ["model"];
            isOneToOne: false;
            referencedRelation: "models";
            referencedColumns: ["name"];
          },
          {
            foreignKeyName: "candidates_provider_fkey";
            columns: ["provider"];
            isOneToOne: false;
            referencedRelation: "providers";
            referencedColumns: ["name"];
          },
        ];
      };
      catalogue_snapshots: {
        Row: {
          content: NonNullable<Json>;
          created_at: string;
          digest: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          content: NonNullable<Json>;
          created_at?: string;
          digest: string;
          version?: never;
        };
        Update: {
          content?: NonNullable<Json>;
          created_at?: string;
          digest?: string;
          version?: never;
        };
        Relationships: [];
      };
      feedback: {
        Row: {
          agent_id: string;
          api_key_id: string | null;
          created_at: string;
          floor: number | null;
          floor_cleared: boolean | null;
          model: string;
          organization_id: string;
          predicted: number | null;
          routing_outcome_id: string;
          score: number;
          source: string;
          task: string;
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          agent_id: string;
          api_key_id?: string | null;
          created_at?: string;
          floor?: number | null;
          floor_cleared?: boolean | null;
          model: string;
          organization_id: string;
          predicted?: number | null;
          routing_outcome_id: string;
          score: number;
          source: string;
          task: string;
          user_id?: string | null;
        };
        Update: {
          agent_id?: string;
          api_key_id?: string | null;
          created_at?: string;
          floor?: number | null;
          floor_cleared?: boolean | null;
          model?: string;
          organization_id?: string;
          predicted?: number | null;
          routing_outcome_id?: string;
          score?: number;
          source?: string;
          task?: string;
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "feedback_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
      idempotency_keys: {
        Row: {
          agent_id: string;
          body_hash: string;
          expires_at: string;
          key: string;
          organization_id: string;
          routing_outcome_id: string;
        };
        ComputedFields: never;
        Insert: {
          agent_id: string;
          body_hash: string;
          expires_at: string;
          key: string;
          organization_id: string;
          routing_outcome_id: string;
        };
        Update: {
          agent_id?: string;
          body_hash?: string;
          expires_at?: string;
          key?: string;
          organization_id?: string;
          routing_outcome_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "idempotency_keys_agent_fkey";
            columns: ["organization_id", "agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["organization_id", "id"];
          },
        ];
      };
      inferences: {
        Row: {
          attempt_number: number;
          bound_nano_usd: number;
          cache_read_tokens: number;
          cache_write_1h_tokens: number;
          cache_write_tokens: number;
          candidate_id: string;
          cost_nano_usd: number;
          duration_milliseconds: number | null;
          error_class: string | null;
          error_message: string | null;
          finished_at: string | null;
          first_content_milliseconds: number | null;
          http_calls: number;
          http_status: number | null;
          id: string;
          input_tokens: number;
          model: string;
          opened_at: string;
          organization_id: string;
          output_limit_tokens: number | null;
          output_tokens: number;
          overrun_nano_usd: number;
          price_id: string;
          provider: string;
          provider_request_id: string | null;
          reasoning_tokens: number;
          reported_usage: Json | null;
          retry_after_seconds: number | null;
          routing_outcome_id: string;
          status: string;
          usage_convention: string | null;
          usage_source: string;
        };
        ComputedFields: never;
        Insert: {
          attempt_number: number;
          bound_nano_usd: number;
          cache_read_tokens?: number;
          cache_write_1h_tokens?: number;
          cache_write_tokens?: number;
          candidate_id: string;
          cost_nano_usd?: number;
          duration_milliseconds?: number | null;
          error_class?: string | null;
          error_message?: string | null;
          finished_at?: string | null;
          first_content_milliseconds?: number | null;
          http_calls?: number;
          http_status?: number | null;
          id: string;
          input_tokens?: number;
          model: string;
          opened_at?: string;
          organization_id: string;
          output_limit_tokens?: number | null;
          output_tokens?: number;
          overrun_nano_usd?: never;
          price_id: string;
          provider: string;
          provider_request_id?: string | null;
          reasoning_tokens?: number;
          reported_usage?: Json | null;
          retry_after_seconds?: number | null;
          routing_outcome_id: string;
          status?: string;
          usage_convention?: string | null;
          usage_source?: string;
        };
        Update: {
          attempt_number?: number;
          bound_nano_usd?: number;
          cache_read_tokens?: number;
          cache_write_1h_tokens?: number;
          cache_write_tokens?: number;
          candidate_id?: string;
          cost_nano_usd?: number;
          duration_milliseconds?: number | null;
          error_class?: string | null;
          error_message?: string | null;
          finished_at?: string | null;
          first_content_milliseconds?: number | null;
          http_calls?: number;
          http_status?: number | null;
          id?: string;
          input_tokens?: number;
          model?: string;
          opened_at?: string;
          organization_id?: string;
          output_limit_tokens?: number | null;
          output_tokens?: number;
          overrun_nano_usd?: never;
          price_id?: string;
          provider?: string;
          provider_request_id?: string | null;
          reasoning_tokens?: number;
          reported_usage?: Json | null;
          retry_after_seconds?: number | null;
          routing_outcome_id?: string;
          status?: string;
          usage_convention?: string | null;
          usage_source?: string;
        };
        Relationships: [
          {
            foreignKeyName: "inferences_routing_outcome_fkey";
            columns: ["organization_id", "routing_outcome_id"];
            isOneToOne: false;
            referencedRelation: "routing_outcomes";
            referencedColumns: ["organization_id", "id"];
          },
        ];
      };
      learning: {
        Row: {
          half_life_days: number;
          id: boolean;
          most_sources: number;
          prior_strength: number;
          sampled_attempts: number;
        };
        ComputedFields: never;
        Insert: {
          half_life_days?: number;
          id?: boolean;
          most_sources?: number;
          prior_strength?: number;
          sampled_attempts?: number;
        };
        Update: {
          half_life_days?: number;
          id?: boolean;
          most_sources?: number;
          prior_strength?: number;
          sampled_attempts?: number;
        };
        Relationships: [];
      };
      ledger_entries: {
        Row: {
          actor: string;
          agent_id: string | null;
          amount_nano_usd: number;
          created_at: string;
          credit_account: string;
          debit_account: string;
          id: string;
          kind: string;
          note: string;
          opened_at: string | null;
          organization_id: string;
          routing_outcome_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          actor?: string;
          agent_id?: string | null;
          amount_nano_usd: number;
          created_at?: string;
          credit_account: string;
          debit_account: string;
          id: string;
          kind: string;
          note?: string;
          opened_at?: string | null;
          organization_id: string;
          routing_outcome_id?: string | null;
        };
        Update: {
          actor?: string;
          agent_id?: string | null;
          amount_nano_usd?: number;
          created_at?: string;
          credit_account?: string;
          debit_account?: string;
          id?: string;
          kind?: string;
          note?: string;
          opened_at?: string | null;
          organization_id?: string;
          routing_outcome_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "ledger_entries_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
      model_qualities: {
        Row: {
          measured_on: string;
          model: string;
          quality: number;
          source: string;
          task: string;
        };
        ComputedFields: never;
        Insert: {
          measured_on: string;
          model: string;
          quality: number;
          source: string;
          task: string;
        };
        Update: {
          measured_on?: string;
          model?: string;
          quality?: number;
          source?: string;
          task?: string;
        };
        Relationships: [
          {
            foreignKeyName: "model_qualities_model_fkey";
            columns: ["model"];
            isOneToOne: false;
            referencedRelation: "models";
            referencedColumns: ["name"];
          },
        ];
      };
      models: {
        Row: {
          description: string;
          name: string;
          tier: string | null;
        };
        ComputedFields: never;
        Insert: {
          description?: string;
          name: string;
          tier?: string | null;
        };
        Update: {
          description?: string;
          name?: string;
          tier?: string | null;
        };
        Relationships: [];
      };
      organization_members: {
        Row: {
          accepted_at: string | null;
          created_at: string;
          default_agent_id: string | null;
          last_chosen_at: string | null;
          organization_id: string;
          role: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          accepted_at?: string | null;
          created_at?: string;
          default_agent_id?: string | null;
          last_chosen_at?: string | null;
          organization_id: string;
          role?: string;
          user_id: string;
        };
        Update: {
          accepted_at?: string | null;
          created_at?: string;
          default_agent_id?: string | null;
          last_chosen_at?: string | null;
          organization_id?: string;
          role?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "organization_members_default_agent_fkey";
            columns: ["organization_id", "default_agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["organization_id", "id"];
          },
          {
            foreignKeyName: "organization_members_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
      organizations: {
        Row: {
          created_at: string;
          id: string;
          name: string;
          stored_answer_hours: number | null;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          id: string;
          name: string;
          stored_answer_hours?: number | null;
        };
        Update: {
          created_at?: string;
          id?: string;
          name?: string;
          stored_answer_hours?: number | null;
        };
        Relationships: [];
      };
      prices: {
        Row: {
          candidate_id: string;
          id: string;
          source: string;
          tiers: Database["public"]["CompositeTypes"]["price_tier"][];
          valid_from: string;
        };
        ComputedFields: never;
        Insert: {
          candidate_id: string;
          id: string;
          source: string;
          tiers: Database["public"]["CompositeTypes"]["price_tier"][];
          valid_from?: string;
        };
        Update: {
          candidate_id?: string;
          id?: string;
          source?: string;
          tiers?: Database["public"]["CompositeTypes"]["price_tier"][];
          valid_from?: string;
        };
        Relationships: [
          {
            foreignKeyName: "prices_candidate_id_fkey";
            columns: ["candidate_id"];
            isOneToOne: false;
            referencedRelation: "candidates";
            referencedColumns: ["id"];
          },
        ];
      };
      providers: {
        Row: {
          api_key_variable: string | null;
          base_url: string;
          enabled: boolean;
          name: string;
          output_limit_field: string;
          refused_fields: string[];
          usage_convention: string;
          wire_format: string;
        };
        ComputedFields: never;
        Insert: {
          api_key_variable?: string | null;
          base_url: string;
          enabled?: boolean;
          name: string;
          output_limit_field?: string;
          refused_fields?: string[];
          usage_convention?: string;
          wire_format?: string;
        };
        Update: {
          api_key_variable?: string | null;
          base_url?: string;
          enabled?: boolean;
          name?: string;
          output_limit_field?: string;
          refused_fields?: string[];
          usage_convention?: string;
          wire_format?: string;
        };
        Relationships: [];
      };
      quality_sums: {
        Row: {
          decayed_to: string;
          model: string;
          successes: number;
          task: string;
          trials: number;
        };
        ComputedFields: never;
        Insert: {
          decayed_to: string;
          model: string;
          successes: number;
          task: string;
          trials: number;
        };
        Update: {
          decayed_to?: string;
          model?: string;
          successes?: number;
          task?: string;
          trials?: number;
        };
        Relationships: [];
      };
      rate_limits: {
        Row: {
          agent_id: string | null;
          created_at: string;
          id: string;
          organization_id: string;
          requests_full_at: string;
          requests_per_minute: number | null;
          tokens_full_at: string;
          tokens_per_minute: number | null;
        };
        ComputedFields: never;
        Insert: {
          agent_id?: string | null;
          created_at?: string;
          id: string;
          organization_id: string;
          requests_full_at?: string;
          requests_per_minute?: number | null;
          tokens_full_at?: string;
          tokens_per_minute?: number | null;
        };
        Update: {
          agent_id?: string | null;
          created_at?: string;
          id?: string;
          organization_id?: string;
          requests_full_at?: string;
          requests_per_minute?: number | null;
          tokens_full_at?: string;
          tokens_per_minute?: number | null;
        };
        Relationships: [
          {
            foreignKeyName: "rate_limits_agent_fkey";
            columns: ["organization_id", "agent_id"];
            isOneToOne: true;
            referencedRelation: "agents";
            referencedColumns: ["organization_id", "id"];
          },
          {
            foreignKeyName: "rate_limits_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
      rate_snapshots: {
        Row: {
          content: NonNullable<Json>;
          digest: string;
          id: number;
          prior_strength: number;
          published_at: string;
        };
        ComputedFields: never;
        Insert: {
          content: NonNullable<Json>;
          digest: string;
          id?: never;
          prior_strength: number;
          published_at?: string;
        };
        Update: {
          content?: NonNullable<Json>;
          digest?: string;
          id?: never;
          prior_strength?: number;
          published_at?: string;
        };
        Relationships: [];
      };
      retention: {
        Row: {
          deleted_until: string;
          id: boolean;
          keep_days: number | null;
        };
        ComputedFields: never;
        Insert: {
          deleted_until?: string;
          id?: boolean;
          keep_days?: number | null;
        };
        Update: {
          deleted_until?: string;
          id?: boolean;
          keep_days?: number | null;
        };
        Relationships: [];
      };
      routing_outcomes: {
        Row: {
          agent_id: string;
          api_key_id: string | null;
          baseline_cost_nano_usd: number | null;
          baseline_price_id: string | null;
          candidates: NonNullable<Json>;
          catalogue_version: number;
          charge_nano_usd: number | null;
          completed_at: string | null;
          dearest_cost_nano_usd: number | null;
          dearest_price_id: string | null;
          decision_rule: string;
          floor: number | null;
          id: string;
          inference_id: string | null;
          lease_expires_at: string;
          metered_tokens: number;
          opened_at: string;
          operator_loss_nano_usd: number;
          organization_id: string;
          outcome_status: string | null;
          passed_over: NonNullable<Json>;
          refusal: Json | null;
          requested_model: string;
          requested_rule: string;
          reserved_nano_usd: number;
          routing_request: NonNullable<Json>;
          stream: boolean;
          swept_at: string | null;
          task: string;
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          agent_id: string;
          api_key_id?: string | null;
          baseline_cost_nano_usd?: number | null;
          baseline_price_id?: string | null;
          candidates: NonNullable<Json>;
          catalogue_version: number;
          charge_nano_usd?: number | null;
          completed_at?: string | null;
          dearest_cost_nano_usd?: number | null;
          dearest_price_id?: string | null;
          decision_rule: string;
          floor?: number | null;
          id: string;
          inference_id?: string | null;
          lease_expires_at: string;
          metered_tokens?: number;
          opened_at?: string;
          operator_loss_nano_usd?: number;
          organization_id: string;
          outcome_status?: string | null;
          passed_over?: NonNullable<Json>;
          refusal?: Json | null;
          requested_model: string;
          requested_rule: string;
          reserved_nano_usd?: number;
          routing_request: NonNullable<Json>;
          stream: boolean;
          swept_at?: string | null;
          task: string;
          user_id?: string | null;
        };
        Update: {
          agent_id?: string;
          api_key_id?: string | null;
          baseline_cost_nano_usd?: number | null;
          baseline_price_id?: string | null;
          candidates?: NonNullable<Json>;
          catalogue_version?: number;
          charge_nano_usd?: number | null;
          completed_at?: string | null;
          dearest_cost_nano_usd?: number | null;
          dearest_price_id?: string | null;
          decision_rule?: string;
          floor?: number | null;
          id?: string;
          inference_id?: string | null;
          lease_expires_at?: string;
          metered_tokens?: number;
          opened_at?: string;
          operator_loss_nano_usd?: number;
          organization_id?: string;
          outcome_status?: string | null;
          passed_over?: NonNullable<Json>;
          refusal?: Json | null;
          requested_model?: string;
          requested_rule?: string;
          reserved_nano_usd?: number;
          routing_request?: NonNullable<Json>;
          stream?: boolean;
          swept_at?: string | null;
          task?: string;
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "routing_outcomes_agent_fkey";
            columns: ["organization_id", "agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["organization_id", "id"];
          },
          {
            foreignKeyName: "routing_outcomes_catalogue_version_fkey";
            columns: ["catalogue_version"];
            isOneToOne: false;
            referencedRelation: "catalogue_snapshots";
            referencedColumns: ["version"];
          },
          {
            foreignKeyName: "routing_outcomes_inference_fkey";
            columns: ["id", "inference_id"];
            isOneToOne: false;
            referencedRelation: "inferences";
            referencedColumns: ["routing_outcome_id", "id"];
          },
        ];
      };
      spend_caps: {
        Row: {
          agent_id: string | null;
          created_at: string;
          id: string;
          limit_nano_usd: number;
          organization_id: string;
          set_at: string;
          taken_when_set_nano_usd: number;
          window_kind: string;
        };
        ComputedFields: never;
        Insert: {
          agent_id?: string | null;
          created_at?: string;
          id: string;
          limit_nano_usd: number;
          organization_id: string;
          set_at?: string;
          taken_when_set_nano_usd?: number;
          window_kind: string;
        };
        Update: {
          agent_id?: string | null;
          created_at?: string;
          id?: string;
          limit_nano_usd?: number;
          organization_id?: string;
          set_at?: string;
          taken_when_set_nano_usd?: number;
          window_kind?: string;
        };
        Relationships: [
          {
            foreignKeyName: "spend_caps_agent_fkey";
            columns: ["organization_id", "agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["organization_id", "id"];
          },
          {
            foreignKeyName: "spend_caps_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
      spend_counters: {
        Row: {
          charged_nano_usd: number;
          held_nano_usd: number;
          organization_id: string;
          spend_cap_id: string;
          window_start: string;
        };
        ComputedFields: never;
        Insert: {
          charged_nano_usd?: number;
          held_nano_usd?: number;
          organization_id: string;
          spend_cap_id: string;
          window_start: string;
        };
        Update: {
          charged_nano_usd?: number;
          held_nano_usd?: number;
          organization_id?: string;
          spend_cap_id?: string;
          window_start?: string;
        };
        Relationships: [
          {
            foreignKeyName: "spend_counters_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "spend_counters_spend_cap_id_fkey";
            columns: ["spend_cap_id"];
            isOneToOne: false;
            referencedRelation: "spend_caps";
            referencedColumns: ["id"];
          },
        ];
      };
      stored_answers: {
        Row: {
          content: string;
          expires_at: string;
          organization_id: string;
          routing_outcome_id: string;
        };
        ComputedFields: never;
        Insert: {
          content: string;
          expires_at: string;
          organization_id: string;
          routing_outcome_id: string;
        };
        Update: {
          content?: string;
          expires_at?: string;
          organization_id?: string;
          routing_outcome_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "stored_answers_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
      usage_hours: {
        Row: {
          agent_id: string;
          attempts: number;
          baseline_cost_nano_usd: number;
          baseline_decisions: number;
          cache_read_tokens: number;
          cache_write_1h_tokens: number;
          cache_write_tokens: number;
          charge_nano_usd: number;
          dearest_cost_nano_usd: number;
          dearest_decisions: number;
          decisions: number;
          hour: string;
          input_tokens: number;
          model: string;
          organization_id: string;
          outcome_status: string;
          output_tokens: number;
          provider: string;
          reasoning_tokens: number;
          saved_nano_usd: number;
          task: string;
        };
        ComputedFields: never;
        Insert: {
          agent_id: string;
          attempts?: number;
          baseline_cost_nano_usd?: number;
          baseline_decisions?: number;
          cache_read_tokens?: number;
          cache_write_1h_tokens?: number;
          cache_write_tokens?: number;
          charge_nano_usd?: number;
          dearest_cost_nano_usd?: number;
          dearest_decisions?: number;
          decisions: number;
          hour: string;
          input_tokens?: number;
          model?: string;
          organization_id: string;
          outcome_status: string;
          output_tokens?: number;
          provider?: string;
          reasoning_tokens?: number;
          saved_nano_usd?: number;
          task: string;
        };
        Update: {
          agent_id?: string;
          attempts?: number;
          baseline_cost_nano_usd?: number;
          baseline_decisions?: number;
          cache_read_tokens?: number;
          cache_write_1h_tokens?: number;
          cache_write_tokens?: number;
          charge_nano_usd?: number;
          dearest_cost_nano_usd?: number;
          dearest_decisions?: number;
          decisions?: number;
          hour?: string;
          input_tokens?: number;
          model?: string;
          organization_id?: string;
          outcome_status?: string;
          output_tokens?: number;
          provider?: string;
          reasoning_tokens?: number;
          saved_nano_usd?: number;
          task?: string;
        };
        Relationships: [
          {
            foreignKeyName: "usage_hours_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: false;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
      wallets: {
        Row: {
          balance_nano_usd: number;
          held_nano_usd: number;
          organization_id: string;
        };
        ComputedFields: never;
        Insert: {
          balance_nano_usd?: number;
          held_nano_usd?: number;
          organization_id: string;
        };
        Update: {
          balance_nano_usd?: number;
          held_nano_usd?: number;
          organization_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: "wallets_organization_id_fkey";
            columns: ["organization_id"];
            isOneToOne: true;
            referencedRelation: "organizations";
            referencedColumns: ["id"];
          },
        ];
      };
    };
    Views: {
      [_ in never]: never;
    };
    Functions: {
      add_member: {
        Args: {
          acting_user_id: string;
          default_agent_id: string;
          organization_id: string;
          role: string;
          user_id: string;
        };
        Returns: Json;
      };
      change_agent: {
        Args: { acting_user_id: string; agent_id: string; changes: Json; organization_id: string };
        Returns: Json;
      };
      change_member: {
        Args: { acting_user_id: string; changes: Json; organization_id: string; user_id: string };
        Returns: Json;
      };
      change_organization: {
        Args: { acting_user_id: string; changes: Json; organization_id: string };
        Returns: Json;
      };
      complete_decisions: { Args: { items: Json }; Returns: Json };
      correct_wallet: {
        Args: {
          actor: string;
          amount_nano_usd: number;
          entry_id: string;
          note: string;
          organization_id: string;
        };
        Returns: number;
      };
      create_agent: {
        Args: { acting_user_id: string; agent_id: string; organization_id: string; settings: Json };
        Returns: Json;
      };
      create_api_key: {
        Args: {
          acting_user_id: string;
          agent_id: string;
          display_prefix: string;
          expires_at: string;
          key_hash: string;
          key_id: string;
          name: string;
          organization_id: string;
        };
        Returns: Json;
      };
      delete_old_decisions: { Args: { batch_size: number }; Returns: number };
      find_caller_by_key: {
        Args: { key_hash: string };
        Returns: {
          agent_id: string;
          api_key_id: string;
          baseline_model: string;
          default_floor: number;
          default_max_output_tokens: number;
          organization_id: string;
          user_id: string;
        }[];
      };
      find_caller_by_user: {
        Args: { agent?: string; organization_id: string; user_id: string };
        Returns: {
          agent_id: string;
          api_key_id: string;
          baseline_model: string;
          default_floor: number;
          default_max_output_tokens: number;
          organization_id: string;
          user_id: string;
        }[];
      };
      gateway_invariants: {
        Args: { of_organization?: string; since?: string };
        Returns: {
          detail: string;
          invariant: string;
          organization_id: string;
          subject_id: string;
        }[];
      };
      insert_attempts: { Args: { items: Json }; Returns: Json };
      insert_decisions: { Args: { items: Json }; Returns: Json };
      my_organizations: {
        Args: Record<PropertyKey, never>;
        Returns: {
          is_accepted: boolean;
          is_active: boolean;
          name: string;
          organization_id: string;
          role: string;
        }[];
      };
      publish_rates: { Args: { least_age_seconds?: number }; Returns: number };
      quality_by: {
        Args: { since: string; until?: string };
        Returns: {
          decisions: number;
          model: string;
          predicted: number;
          realised: number;
          realised_high: number;
          realised_low: number;
          samples: number;
          saved_nano_usd: number;
          share: number;
          task: string;
        }[];
      };
      quality_by_floor: {
        Args: { since: string; until?: string };
        Returns: {
          floor_from: number;
          predicted: number;
          realised: number;
          samples: number;
        }[];
      };
      quality_drift: {
        Args: { least_samples?: number; margin?: number; since?: string };
        Returns: {
          model: string;
          predicted: number;
          realised: number;
          samples: number;
          task: string;
        }[];
      };
      read_catalogue: { Args: { known_rates?: number; known_version?: number }; Returns: Json };
      read_idempotency_key: { Args: { agent_id: string; key: string }; Returns: Json };
      recompute_costs: {
        Args: { of_organization?: string; since?: string };
        Returns: {
          cost_nano_usd: number;
          inference_id: string;
          organization_id: string;
          recomputed_nano_usd: number;
        }[];
      };
      record_feedback: {
        Args: {
          agent_id: string;
          api_key_id: string;
          checker: string;
          decision_id: string;
          organization_id: string;
          score: number;
          user_id: string;
        };
        Returns: Json;
      };
      refund_decision: {
        Args: {
          actor: string;
          amount_nano_usd: number;
          entry_id: string;
          note: string;
          organization_id: string;
          routing_outcome_id: string;
        };
        Returns: number;
      };
      remove_member: {
        Args: { acting_user_id: string; organization_id: string; user_id: string };
        Returns: Json;
      };
      renew_leases: { Args: { decisions: string[]; lease_seconds: number }; Returns: number };
      revoke_api_key: {
        Args: { acting_user_id: string; key_id: string; organization_id: string };
        Returns: Json;
      };
      rotate_api_key: {
        Args: {
          acting_user_id: string;
          display_prefix: string;
          grace_seconds: number;
          key_hash: string;
          key_id: string;
          new_key_id: string;
          organization_id: string;
        };
        Returns: Json;
      };
      set_rate_limit: {
        Args: {
          acting_user_id?: string;
          agent_id: string;
          limit_id: string;
          organization_id: string;
          requests_per_minute: number;
          tokens_per_minute: number;
        };
        Returns: string;
      };
      set_spend_cap: {
        Args: {
          acting_user_id?: string;
          agent_id: string;
          cap_id: string;
          limit_nano_usd: number;
          organization_id: string;
          window_kind: string;
        };
        Returns: string;
      };
      sweep_decisions: { Args: { batch_size: number; late_seconds?: number }; Returns: number };
      switch_organization: { Args: { organization_id: string }; Returns: undefined };
      top_up_wallet: {
        Args: {
          actor?: string;
          amount_nano_usd: number;
          entry_id: string;
          note?: string;
          organization_id: string;
        };
        Returns: number;
      };
      usage_by: {
        Args: { bucket: string; since: string; until?: string };
        Returns: {
          agent_id: string;
          attempts: number;
          baseline_cost_nano_usd: number;
          bucket_start: string;
          cache_read_tokens: number;
          cache_write_1h_tokens: number;
          cache_write_tokens: number;
          charge_nano_usd: number;
          dearest_cost_nano_usd: number;
          decisions: number;
          input_tokens: number;
          model: string;
          outcome_status: string;
          output_tokens: number;
          provider: string;
          reasoning_tokens: number;
          saved_nano_usd: number;
        }[];
      };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      price_tier: {
        above_input_tokens: number | null;
        input_nano_usd_per_mtok: number | null;
        cache_read_nano_usd_per_mtok: number | null;
        cache_write_nano_usd_per_mtok: number | null;
        cache_write_1h_nano_usd_per_mtok: number | null;
        output_nano_usd_per_mtok: number | null;
        reasoning_nano_usd_per_mtok: number | null;
      };
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "public">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    keyof (DefaultSchema["Tables"] & DefaultSchema["Views"]) | { schema: keyof DatabaseWithoutInternals },
  TableName extends (DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] &
        DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"])
    : never) = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] &
      DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"])[TableName] extends {
      Row: infer R;
    }
    ? R
    : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
        Row: infer R;
      }
      ? R
      : never
    : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    keyof DefaultSchema["Tables"] | { schema: keyof DatabaseWithoutInternals },
  TableName extends (DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never) = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
      Insert: infer I;
    }
    ? I
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
        Insert: infer I;
      }
      ? I
      : never
    : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    keyof DefaultSchema["Tables"] | { schema: keyof DatabaseWithoutInternals },
  TableName extends (DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never) = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
      Update: infer U;
    }
    ? U
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
        Update: infer U;
      }
      ? U
      : never
    : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    keyof DefaultSchema["Enums"] | { schema: keyof DatabaseWithoutInternals },
  EnumName extends (DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never) = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
    : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    keyof DefaultSchema["CompositeTypes"] | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends (PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never) = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
    : never;

export const Constants = {
  public: {
    Enums: {},
  },
} as const;
